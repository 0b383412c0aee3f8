"""Copies through CUDA's calls, as the bindings of CUDA 12 and 13 have them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dwdp_lab.execute.cuda.gpu.copy_calls import CudaCallFailed, batched, plain
from dwdp_lab.execute.cuda.gpu.device import Copy

COPIES = [Copy(100, 9000, 7), Copy(200, 9500, 8), Copy(300, 9900, 9)]


def runtime(version: int, error: int = 0) -> Any:
    """A stand-in for cuda.bindings.runtime that notes what it is asked."""
    calls: list[tuple[Any, ...]] = []

    def one(*arguments: Any) -> tuple[int]:
        calls.append(arguments)
        return (error,)

    def many(*arguments: Any) -> tuple[Any, ...]:
        calls.append(arguments)
        return (error, 1) if version == 12 else (error,)

    made = SimpleNamespace(
        calls=calls,
        cudaMemcpyKind=SimpleNamespace(cudaMemcpyDefault="default"),
        cudaMemcpyAsync=one,
        cudaMemcpySrcAccessOrder=SimpleNamespace(cudaMemcpySrcAccessOrderStream="stream order"),
        cudaMemcpyAttributes=lambda: SimpleNamespace(srcAccessOrder=None, flags=0),
        cudaMemcpyFlags=SimpleNamespace(cudaMemcpyFlagPreferOverlapWithCompute="overlap"),
    )
    if version >= 12:
        made.cudaMemcpyBatchAsync = many
    return made


def test_one_call_for_each_copy() -> None:
    cuda = runtime(13)
    plain(cuda)(COPIES, 5)
    assert cuda.calls == [(*copy, "default", 5) for copy in COPIES]


@pytest.mark.parametrize("version", [12, 13])
def test_one_call_for_all(version: int) -> None:
    cuda = runtime(version)
    issue = batched(cuda)
    assert issue is not None
    issue(COPIES, 5)
    ((targets, sources, sizes, count, (attributes,), first_of, number, stream),) = cuda.calls
    assert (targets, sources, sizes) == ([100, 200, 300], [9000, 9500, 9900], [7, 8, 9])
    assert (count, first_of, number, stream) == (3, [0], 1, 5)
    assert (attributes.srcAccessOrder, attributes.flags) == ("stream order", "overlap")


@pytest.mark.parametrize(("version", "where"), [(12, "at copy 1"), (13, "3 pieces")])
def test_a_failed_call_is_told(version: int, where: str) -> None:
    issue = batched(runtime(version, error=1))
    assert issue is not None
    with pytest.raises(CudaCallFailed, match=where):
        issue(COPIES, 5)
    with pytest.raises(CudaCallFailed, match="copying 7 bytes"):
        plain(runtime(version, error=1))(COPIES, 5)


def test_the_null_stream_takes_no_batch_and_no_copies_are_no_call() -> None:
    cuda = runtime(13)
    issue = batched(cuda)
    assert issue is not None
    with pytest.raises(ValueError, match="null stream"):
        issue(COPIES, 0)
    issue([], 5)
    assert not cuda.calls


def test_bindings_before_12_8_have_no_batch() -> None:
    assert batched(runtime(11)) is None
