"""Atomic energies from edge vectors: configuration, network, repulsion, checkpoints and the registry."""
