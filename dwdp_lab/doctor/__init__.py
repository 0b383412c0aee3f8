"""Whether this machine can run the lab, and what to do where it cannot."""
