"""The CUDA machine: streams, events, copy engines, and NCCL where it is wished for."""
