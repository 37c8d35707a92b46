"""Atoms and edges: readers, conversion, neighbour lists, batching. Knows no network."""
