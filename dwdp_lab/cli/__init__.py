"""The command line: `dwdp-lab`."""
