"""The CUDA machine: streams, events, copy engines and NCCL."""
