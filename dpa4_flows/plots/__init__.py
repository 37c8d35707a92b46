"""Frames, colours, labels and words of figures, wherever they are shown."""
