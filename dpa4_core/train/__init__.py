"""Training: data, objective, optimiser, the loop and what keeps it alive."""
