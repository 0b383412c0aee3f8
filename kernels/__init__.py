"""Triton kernels, each beside its plain-torch reference. Imported as `dwdp_kernels`."""
