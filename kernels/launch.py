"""Starting Triton kernels: on the tensors' device, with scratch memory for TMA descriptors, and a word on compiling."""

from __future__ import annotations

import contextvars
import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

_log = logging.getLogger(__name__)


class Device(NamedTuple):
    """What the choice of a kernel's configuration depends on."""

    name: str
    capability: tuple[int, int]
    """(9, 0) is Hopper; (0, 0) stands for the CPU interpreter"""
    processors: int

    @property
    def has_tma(self) -> bool:
        """Whether tiles can be moved by TMA descriptors. The interpreter plays them."""
        return self.capability >= (9, 0) or self.is_interpreter

    @property
    def sums_e4m3_in_few_bits(self) -> bool:
        """Whether tensor cores sum products of e4m3 less precisely than fp32: Ada's and Hopper's (SageAttention2, arXiv
        2411.10958). The interpreter takes that path."""
        return (8, 9) <= self.capability < (10, 0) or self.is_interpreter

    @property
    def is_interpreter(self) -> bool:
        """Whether kernels run under Triton's CPU interpreter."""
        return self.capability == (0, 0)


INTERPRETER = Device("Triton's CPU interpreter", (0, 0), 3)


def device_of(x: Tensor) -> Device:
    """The device that kernels on x run on.

    Raises ValueError for a CPU tensor unless TRITON_INTERPRET=1 was set before triton was imported, and for
    bf16 under the interpreter, whose tl.dot computes garbage there (seen in Triton 3.7.1 and 3.9.0).
    """
    if x.device.type == "cuda":
        return _cuda_device(x.device.index)
    if not triton.knobs.runtime.interpret:
        raise ValueError(
            f"the Triton kernels need CUDA tensors, and this one is on {x.device}. On the CPU use "
            "dwdp_kernels.grouped_mlp, or set TRITON_INTERPRET=1 before Python starts to step through the kernels"
        )
    if x.dtype == torch.bfloat16:
        raise ValueError("Triton's CPU interpreter multiplies bf16 wrongly; use float16 or float32 with it")
    return INTERPRETER


@functools.cache
def _cuda_device(index: int) -> Device:
    found = torch.cuda.get_device_properties(index)
    return Device(found.name, (found.major, found.minor), found.multi_processor_count)


def launch(kernel: Any, grid: tuple[int, ...], on: Tensor, *arguments: object, **options: object) -> None:
    """Start kernel[grid](*arguments, **options) on the device and current stream of the tensor `on`.

    Returns at once. Capturable in a CUDA graph once the same call has run outside of it, which compiles it.
    """
    if on.device.type != "cuda":
        kernel[grid](*arguments, **options)
        return
    _say_once(on.device.index)
    # the allocator is a context variable: set in a copy, it is right in every thread and disturbs nobody else's
    with torch.cuda.device(on.device):
        contextvars.copy_context().run(_with_scratch, lambda: kernel[grid](*arguments, **options))


def _with_scratch(start: Callable[[], object]) -> None:
    triton.set_allocator(_scratch)
    start()


def _scratch(size: int, alignment: int, _stream: int | None) -> Tensor:
    """Memory that a kernel builds its TMA descriptors in; torch keeps it until the kernel has run."""
    assert alignment <= 512  # what torch's allocator gives
    return torch.empty(size, dtype=torch.int8, device="cuda")


@functools.cache
def _say_once(index: int) -> None:
    # a warning is what shows in a notebook that has set nothing up
    _log.warning(
        "Triton %s compiles each kernel when it is first used on %s: a few seconds each, kept in %s afterwards",
        triton.__version__,
        _cuda_device(index).name,
        triton.knobs.cache.dir,
    )
