"""Equivariant layers: tensors in, tensors out. Knows no atoms, no files, no configuration."""
