"""DWDP Lab: see, change, break and measure mixture-of-experts inference without synchronisation."""

__version__ = "0.1.0"
