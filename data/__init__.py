"""Data that ships with DWDP Lab; every number in it names its source."""
