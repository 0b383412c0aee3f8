"""DEP's traffic of a layer, in each of its forms."""
