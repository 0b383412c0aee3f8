"""A layer's arithmetic on a GPU, its parts, and what operations hand on."""
