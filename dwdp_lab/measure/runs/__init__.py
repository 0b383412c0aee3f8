"""Grids of strategies on ranks, kept with where they ran, and set beside what the simulator predicts."""
