"""How ranks meet: collectives and messages by copy engine, over NCCL, or through the host."""
