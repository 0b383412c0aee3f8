"""Rank processes, and the machine that runs programs on them."""
