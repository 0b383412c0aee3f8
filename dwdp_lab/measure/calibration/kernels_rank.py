"""The job that times single kernels on one rank, in step with all others."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import torch

from dwdp_lab.execute.cuda.refusal import LEAST_FOR_E4M3
from dwdp_lab.execute.messages import Progress
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.measure.calibration.kernels_plan import Core, KernelPlan, KernelReport, Product
from dwdp_lab.measure.calibration.probe import Probe, open_probe
from dwdp_lab.measure.calibration.samples import ComputeSample
from dwdp_lab.model.attention import causal_attention
from dwdp_lab.model.supported import torch_dtype
from dwdp_lab.program.operation import Work
from dwdp_lab.scenario.precision import BYTES_PER_PARAM, Precision

Run = Callable[[], object]


def measure_kernels(session: RankSession, plan: KernelPlan) -> KernelReport:
    """Time all of the plan. All ranks call this together, and start each kernel together: they share the machine."""
    probe = open_probe(plan.machine, session.rank)
    first = plan.precisions[0]
    todo: list[tuple[ComputeSample, Run]] = []
    todo += [_product(probe, precision, plan.largest) for precision in plan.precisions]
    todo += [_product(probe, first, product) for product in plan.products]
    todo += [_core(probe, first, core) for core in plan.cores]
    todo += [_copy(probe, nbytes) for nbytes in plan.copies]
    small = torch.ones(1, device=probe.device)
    todo.append((ComputeSample("launch", None, (), 0.0), lambda: small.add_(0.0)))
    samples: list[ComputeSample] = []
    with torch.inference_mode():
        for number, (sample, run) in enumerate(todo):
            session.gather(f"kernel {number}", None)
            samples.append(sample._replace(us=probe.time_us(run, plan.least_us, plan.settle_us)))
            session.channel.send(Progress(sample.what, number + 1, len(todo)))
    peaks = {
        precision: plan.largest.flops / sample.us / 1e6
        for precision, sample in zip(plan.precisions, samples, strict=False)
    }
    others = [peaks[first], *(s.work[0].flops / s.us / 1e6 for s in samples if s.what == f"product {first}")]
    memory, has_e4m3 = float(psutil.virtual_memory().total), True
    if probe.device.type == "cuda":
        memory = float(torch.cuda.get_device_properties(probe.device).total_memory)
        has_e4m3 = torch.cuda.get_device_capability(probe.device) >= LEAST_FOR_E4M3
    return KernelReport(tuple(samples[len(peaks) : -1]), peaks | {first: max(others)}, samples[-1].us, memory, has_e4m3)


def _random(probe: Probe, precision: Precision, *shape: int) -> torch.Tensor:
    # never zeros: they are multiplied faster on a GPU
    return torch.randn(*shape, device=probe.device).to(torch_dtype(precision))


def _product(probe: Probe, precision: Precision, product: Product) -> tuple[ComputeSample, Run]:
    rows, weight = (
        _random(probe, precision, product.rows, product.k),
        _random(probe, precision, product.n, product.k),
    )
    nbytes = product.k * product.n * BYTES_PER_PARAM[precision]
    work = Work("gemm", precision, product.flops, nbytes)
    return ComputeSample(f"product {precision}", None, (work,), 0.0), lambda: torch.nn.functional.linear(rows, weight)


def _core(probe: Probe, precision: Precision, core: Core) -> tuple[ComputeSample, Run]:
    q = _random(probe, precision, core.tokens, core.heads, core.head_dim)
    k, v = (_random(probe, precision, core.tokens, core.kv_heads, core.head_dim) for _ in range(2))
    pairs = core.tokens * (core.tokens + 1) // 2
    elements = 2 * core.tokens * (core.heads + core.kv_heads) * core.head_dim
    flops = 4.0 * core.heads * core.head_dim * pairs
    work = Work("attention", precision, flops, elements * BYTES_PER_PARAM[precision])
    return ComputeSample("attention core", None, (work,), 0.0), lambda: causal_attention(q, k, v, None)


def _copy(probe: Probe, nbytes: int) -> tuple[ComputeSample, Run]:
    source = torch.empty(nbytes, dtype=torch.uint8, device=probe.device).random_()
    target = torch.empty_like(source)
    return ComputeSample("copy", None, (Work("memory", "fp32", 0.0, 2.0 * nbytes),), 0.0), lambda: target.copy_(source)
