"""Kernels find their operation and lane, as far as the profiler's trace tells."""

from __future__ import annotations

from dwdp_lab.execute.kernel_spans import LANE, OPERATION, kernels_of, named_by_time, outside_us
from dwdp_lab.execute.kineto import Seen
from dwdp_lab.program.operation import Lane, Op
from dwdp_lab.timeline.span import Span

OPS = (Op("attention", "compute", 0, 2), Op("pull", "copy", 0, 3), Op("experts", "compute", 0, 2))
HOST = 77
COMPUTE, COPY, OTHER = 7, 20, 24


def label(name: str, start: float, end: float, thread: int = HOST) -> Seen:
    return Seen("user_annotation", name, thread, start, end, None, 0.0)


def kernel(stream: int, start: float, end: float, number: int | None, name: str = "gemm", nbytes: float = 0.0) -> Seen:
    return Seen("gpu_memcpy" if nbytes else "kernel", name, stream, start, end, number, nbytes)


def call(number: int, at: float) -> Seen:
    """CUPTI may know the thread by another number."""
    return Seen("cuda_runtime", "cudaLaunchKernel", HOST + number % 2, at, at + 1, number, 0.0)


LABELS = [
    label(LANE + "compute", 0, 10),
    label(LANE + "copy", 10, 20),
    label(OPERATION + "0", 30, 40),
    label(OPERATION + "1", 40, 50),
    label(OPERATION + "2", 50, 60),
]
TOUCHED = [call(1, 2), kernel(COMPUTE, 21, 22, 1), call(2, 12), kernel(COPY, 23, 24, 2)]


def test_a_gpu_s_kernels_go_by_the_call_that_launched_them() -> None:
    seen = [
        *LABELS,
        Seen("gpu_user_annotation", OPERATION + "2", COMPUTE, 30.5, 9_500, None, 0.0),  # the profiler's own, of a label
        label("nccl:all_gather", 41, 42),  # a label of somebody else's
        *TOUCHED,
        call(3, 31),
        kernel(COMPUTE, 2_000, 3_000, 3),
        call(4, 41),
        kernel(COPY, 2_500, 9_000, 4, "Memcpy PtoP (Device -> Device)", 1e6),
        call(5, 52),
        kernel(COMPUTE, 9_000, 9_500, 5),
    ]
    found = kernels_of(3, OPS, seen, gpu=True, zero_ns=1_000, since_ns=1_500)  # lanes were touched before
    assert [(each.lane, each.of, each.start_us, each.end_us) for each, _ in found] == [
        ("compute", "attention L2", 1.0, 2.0),
        ("copy", "pull L3", 1.5, 8.0),
        ("compute", "experts L2", 8.0, 8.5),
    ]
    assert [number for _, number in found] == [0, 1, 2]
    assert [(each.rank, each.nbytes) for each, _ in found] == [(3, 0.0), (3, 1e6), (3, 0.0)]
    spans = [
        Span(3, op.lane, op.kind, 0, op.layer, *times)
        for op, times in zip(OPS, [(1, 2), (2, 9), (8, 8.2)], strict=True)
    ]
    assert outside_us(found, spans) == 0.5
    assert outside_us(found[:1], spans) == 0.0


def test_where_the_call_is_unknown_stream_and_time_tell() -> None:
    unknown = [kernel(COPY, 2_500, 9_000, 4, "Memcpy PtoP", 1e6), kernel(OTHER, 100, 200, None)]
    found = kernels_of(0, OPS, [*LABELS, *TOUCHED, *unknown], gpu=True, zero_ns=0, since_ns=50)
    assert [(each.lane, each.of) for each, _ in found] == [("stream 24", ""), ("copy", "")]
    spans = [Span(0, "compute", "attention", 0, 2, 0, 20), Span(0, "copy", "pull", 0, 3, 2.4, 9.1)]
    named = named_by_time(found, spans)
    assert [(each.lane, each.of) for each, _ in named] == [("stream 24", ""), ("copy", "pull L3")]
    assert outside_us(named, spans) == 0.0  # nothing is known to belong to any of them


def test_a_stream_of_a_library_goes_by_the_lane_that_launched_on_it() -> None:
    launched = [call(6, 45), kernel(OTHER, 100, 200, 6, "ncclDevKernel")]
    ((found, number),) = kernels_of(0, OPS, [*LABELS, *TOUCHED, *launched], gpu=True, zero_ns=0, since_ns=50)
    assert (found.lane, found.of, number) == ("copy", "pull L3", 1)


def test_without_a_gpu_torch_s_operations_go_by_their_thread() -> None:
    lanes: list[tuple[Lane, int]] = [("compute", 1), ("copy", 2)]
    seen = [
        label(OPERATION + "0", 0, 1_000, lanes[0][1]),
        label(OPERATION + "1", 0, 5_000, lanes[1][1]),
        Seen("cpu_op", "aten::mm", 1, 100, 900, None, 0.0),
        Seen("cpu_op", "aten::copy_", 2, 100, 4_000, None, 0.0),
        Seen("cpu_op", "aten::mm", 1, 1_500, 2_000, None, 0.0),  # between operations
        Seen("cpu_op", "aten::mm", 3, 100, 200, None, 0.0),  # of some other thread
    ]
    found = kernels_of(0, OPS, seen, gpu=False, zero_ns=0, since_ns=0)
    assert [(each.lane, each.name, each.of) for each, _ in found] == [
        ("compute", "aten::mm", "attention L2"),
        ("copy", "aten::copy_", "pull L3"),
    ]
    assert kernels_of(0, OPS, seen, gpu=True, zero_ns=0, since_ns=0) == []  # no kernel: nothing else in their place
