"""Training: optimiser, learning rate, averages of the weights."""
