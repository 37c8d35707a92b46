"""Readers of labelled frames, one module per family of formats.

A reader takes the path, the `LabelKeys` and the name of the source for messages, and yields frames and broken frames.
Units and the sign of the stress are settled here and nowhere else. Nothing is ever unpickled.
"""
