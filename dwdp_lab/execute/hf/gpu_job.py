"""The job that runs a model of transformers on a GPU rank (execute/perform.py): load, answer its prompts, report."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.experts.needs import need_of
from dwdp_lab.execute.cuda.experts.prepare_experts import prepare_experts
from dwdp_lab.execute.cuda.experts.run_experts import RunExperts
from dwdp_lab.execute.cuda.gpu.clock import Clock, anchor, clock
from dwdp_lab.execute.cuda.gpu.cuda_device import CudaDevice, CudaStream
from dwdp_lab.execute.cuda.gpu.device import Device, Event, Stream
from dwdp_lab.execute.cuda.timed_run import HEAD_START_NS
from dwdp_lab.execute.hf.asking import ask, brought, warm_up
from dwdp_lab.execute.hf.gpu_experts import GpuExperts
from dwdp_lab.execute.hf.gpu_loaded import GpuLoaded, GpuRank, gpu_load
from dwdp_lab.execute.hf.order import HfAnswer, HfOrder
from dwdp_lab.execute.messages import Order, Progress
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.execute.report import span_of
from dwdp_lab.timeline.span import Span

_RANKS: WeakKeyDictionary[RankSession, GpuRank] = WeakKeyDictionary()


def run(session: RankSession, order: HfOrder) -> HfAnswer:
    """Do the order on this rank's GPU."""
    from dwdp_lab.execute.cuda.gpu.copy_ways import CopyWays
    from dwdp_lab.execute.cuda.memory.driver_memory import DriverMemory
    from dwdp_lab.execute.cuda.memory.legacy_ipc import DriverIpc

    gpus = torch.cuda.device_count()
    index = session.rank % gpus
    if session not in _RANKS:
        device = CudaDevice(torch.device("cuda", index), DriverMemory(index))
        _RANKS[session] = GpuRank(device, DriverIpc(index))
    gpu = _RANKS[session]

    def set_copy_way(experts: RunExperts) -> dict[str, Any]:
        copies = next(iter(experts.copies_of.values()), ())
        if not copies or not isinstance(gpu.device, CudaDevice):
            return {}
        wish = order.scenario.strategy.copy_calls
        return {"copies": CopyWays(gpu.device).set(gpu.streams["copy"], copies, wish)}

    told = {
        "device": torch.cuda.get_device_name(index),
        "ranks_per_gpu": -(-session.ranks // torch.cuda.device_count()),
    }
    answer = run_on(session, gpu, order, set_copy_way)
    return answer._replace(environment=answer.environment | told)


@torch.inference_mode()
def run_on(session: RankSession, gpu: GpuRank, order: HfOrder, set_copy_way: Any = lambda _: {}) -> HfAnswer:
    """Do the order on any device. After a failure nothing is given back: this process is about to end."""
    device, compute, rank = gpu.device, gpu.streams["compute"], session.rank
    loaded = gpu_load(session, gpu, order)
    run_experts = _prepare(session, device, loaded, order)
    experts = GpuExperts(device, gpu.streams, order.programs[rank].ops, run_experts)
    prompts = torch.tensor(order.prompts[rank], dtype=torch.int64, device=device.torch_device)
    session.gather("prepared", None)
    environment = {"torch": str(torch.__version__), **set_copy_way(run_experts)}
    device.synchronize()
    answered: tuple[Tensor | None, Tensor | None] = None, None
    with brought(loaded.model, loaded.modules, experts), _current(compute):
        if len(prompts):
            session.channel.send(Progress("warming up", 0, 1))
            warm_up(loaded.model, prompts)
            experts.passes.clear()
        device.synchronize()
        first = anchor(device, compute)
        starts, _ = session.gather("start", time.monotonic_ns() + HEAD_START_NS)
        start_ns = max(starts)
        time.sleep(max(0, start_ns - time.monotonic_ns()) / 1e9)
        if len(prompts):
            answered = ask(loaded.model, prompts, order)
        device.synchronize()
    last = anchor(device, compute)
    session.gather("ended", None)  # peers may still read what this rank keeps
    spans = _spans(rank, device, experts, clock(device, first, last), first.event, start_ns)
    logits, tokens = (None if tensor is None else tensor.cpu() for tensor in answered)
    run_experts.close()
    return HfAnswer(spans, len(experts.passes), logits, tokens, environment, tuple(run_experts.notes))


def _prepare(session: RankSession, device: Device, loaded: GpuLoaded, order: HfOrder) -> RunExperts:
    kinds = frozenset(op.kind for program in order.programs for op in program.ops)
    need = need_of(Order(order.scenario, order.programs[session.rank], kinds, outputs=False), session.rank)
    return prepare_experts(
        order.scenario, need, session.rank, device, loaded.whole, loaded.shard if need.shard else None, loaded.peers
    )


def _current(stream: Stream) -> AbstractContextManager[Any]:
    """In this context torch launches on the stream, if it is one of torch's."""
    return torch.cuda.stream(stream.stream) if isinstance(stream, CudaStream) else nullcontext()


def _spans(
    rank: int, device: Device, experts: GpuExperts, told: Clock, first: Event, start_ns: int
) -> tuple[Span, ...]:
    def at_us(event: Event) -> float:
        return max(0.0, (told.host_ns(device.elapsed_us(first, event)) - start_ns) / 1e3)

    spans = []
    for number, each in enumerate(experts.passes):
        for op, stamp in zip(experts.ops, each.stamps, strict=True):
            # passes after the first have other work than the scenario's: one token for each sequence
            as_run = op._replace(step=number, work=op.work if number == 0 else ())
            pulled = each.pulled_bytes.get(op.layer)
            spans.append(span_of(rank, as_run, at_us(stamp.start), at_us(stamp.end), pulled))
    return tuple(spans)
