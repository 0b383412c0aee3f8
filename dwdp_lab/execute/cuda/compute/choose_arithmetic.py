"""Triton's kernels or plain torch: decided here alone, by the kind of device."""

from __future__ import annotations

import torch

from dwdp_lab.execute.cuda.compute.arithmetic import Arithmetic


def arithmetic_on(device: torch.device) -> Arithmetic:
    """Triton's kernels on a GPU, plain torch elsewhere."""
    if device.type == "cuda":
        from dwdp_lab.execute.cuda.compute.triton_arithmetic import TritonArithmetic

        return TritonArithmetic()
    from dwdp_lab.execute.cuda.compute.torch_arithmetic import TorchArithmetic

    return TorchArithmetic()
