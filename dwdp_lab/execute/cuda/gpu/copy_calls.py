"""The two ways to hand copies to the copy engines: one call each, or one call for many.

A call costs the host about 8 us, so many small copies are faster in one `cudaMemcpyBatchAsync`. That one takes no null
stream, cannot be captured into a CUDA graph, and came with CUDA 12.8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from dwdp_lab.execute.cuda.gpu.device import Copy

CopyWay = Literal["plain", "batched"]

Issue = Callable[[Sequence[Copy], int], None]
"""(copies, handle of the stream): queue them."""


class CudaCallFailed(RuntimeError):  # noqa: N818 - it reads as what it reports
    """A CUDA call returned an error."""


def check(answer: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    """What a binding returned after its error code. Raises CudaCallFailed, naming the call, for a code but 0."""
    error, *rest = answer
    if int(error) != 0:
        raise CudaCallFailed(f"{what}: {getattr(error, 'name', error)}")
    return tuple(rest)


def plain(runtime: Any) -> Issue:
    """One `cudaMemcpyAsync` per copy. `runtime` is `cuda.bindings.runtime`."""
    kind = runtime.cudaMemcpyKind.cudaMemcpyDefault
    copy = runtime.cudaMemcpyAsync

    def issue(copies: Sequence[Copy], stream: int) -> None:
        for target, source, nbytes in copies:
            check(copy(target, source, nbytes, kind, stream), f"copying {nbytes} bytes")

    return issue


def batched(runtime: Any) -> Issue | None:
    """One `cudaMemcpyBatchAsync` for all copies; None where the bindings lack it.

    Python's signature is the same for CUDA 12 and 13, but 12 also returns which copy failed.
    """
    copy = getattr(runtime, "cudaMemcpyBatchAsync", None)
    if copy is None:
        return None
    attributes = runtime.cudaMemcpyAttributes()
    attributes.srcAccessOrder = runtime.cudaMemcpySrcAccessOrder.cudaMemcpySrcAccessOrderStream
    flags = getattr(runtime, "cudaMemcpyFlags", None)
    if flags is not None:
        # tensor cores are busy meanwhile: leave their processors alone
        attributes.flags = flags.cudaMemcpyFlagPreferOverlapWithCompute

    def issue(copies: Sequence[Copy], stream: int) -> None:
        if not copies:
            return
        if not stream:
            raise ValueError("batched copies need a stream of their own, not the null stream")
        targets, sources, sizes = (list(column) for column in zip(*copies, strict=True))
        answer = copy(targets, sources, sizes, len(sizes), [attributes], [0], 1, stream)
        where = f", at copy {answer[1]}" if len(answer) > 1 and int(answer[0]) != 0 else ""
        check(answer[:1], f"copying {len(sizes)} pieces in one call{where}")

    return issue
