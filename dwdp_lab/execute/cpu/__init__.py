"""The CPU machine: threads, shared memory and gloo."""
