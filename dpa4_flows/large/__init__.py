"""Runs over any number of structures: a folder of Parquet shards that several processes fill together.

See docs/large-runs.md for the layout of the folder and what is guaranteed.
"""
