"""The job that runs a model of transformers on a CPU rank (execute/perform.py): load, answer its prompts, report."""

from __future__ import annotations

import time

import torch

from dwdp_lab.execute.cpu.run_order import HEAD_START_NS
from dwdp_lab.execute.hf.asking import ask, brought, warm_up
from dwdp_lab.execute.hf.loaded import load
from dwdp_lab.execute.hf.order import HfAnswer, HfOrder
from dwdp_lab.execute.hf.rank_experts import Pass, RankExperts
from dwdp_lab.execute.messages import Progress
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.execute.report import span_of
from dwdp_lab.timeline.span import Span


@torch.inference_mode()
def run(session: RankSession, order: HfOrder) -> HfAnswer:
    """Do the order. After a failure nothing is given back: this process is about to end."""
    rank = session.rank
    loaded = load(session, order)
    experts = RankExperts(order.scenario, rank, order.programs[rank].ops, loaded.store, loaded.peers)
    prompts = torch.tensor(order.prompts[rank], dtype=torch.int64)
    logits = tokens = None
    with brought(loaded.model, loaded.modules, experts):
        if len(prompts):
            session.channel.send(Progress("warming up", 0, 1))
            warm_up(loaded.model, prompts)
            experts.passes.clear()
        starts, _ = session.gather("start", time.monotonic_ns() + HEAD_START_NS)
        start_ns = max(starts)
        time.sleep(max(0, start_ns - time.monotonic_ns()) / 1e9)
        if len(prompts):
            logits, tokens = ask(loaded.model, prompts, order)
    experts.close()
    session.gather("ended", None)  # peers may still read what this rank keeps
    spans = [span for number, each in enumerate(experts.passes) for span in _spans(rank, number, each, start_ns)]
    return HfAnswer(tuple(spans), len(experts.passes), logits, tokens, {"torch": str(torch.__version__)})


def _spans(rank: int, number: int, ended: Pass, start_ns: int) -> list[Span]:
    spans = []
    for op, (began, ends) in zip(ended.ops, ended.times, strict=True):
        # passes after the first have other work than the scenario's: one token for each sequence
        told = op._replace(step=number, work=op.work if number == 0 else ())
        spans.append(
            span_of(rank, told, (began - start_ns) / 1e3, (ends - start_ns) / 1e3, ended.pulled_bytes.get(op.layer))
        )
    return spans
