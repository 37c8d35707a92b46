"""The one loop that computes: plans ask, a batch answers, a store remembers."""
