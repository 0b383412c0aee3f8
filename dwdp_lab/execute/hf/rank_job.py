"""The job that runs a model of transformers on a rank (execute/perform.py): load, answer the rank's prompts, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.run_order import HEAD_START_NS
from dwdp_lab.execute.hf.loaded import load
from dwdp_lab.execute.hf.rank_experts import LayerExperts, Pass, RankExperts
from dwdp_lab.execute.messages import Progress
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.execute.report import span_of
from dwdp_lab.model.hf.expert_source import give_source
from dwdp_lab.program.operation import Program
from dwdp_lab.program.placement import placement
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.span import Span


class HfOrder(NamedTuple):
    """What all ranks are asked to do. `prompts[r]` are rank r's, all of one length; none: it only lends its experts."""

    folder: str
    version: object
    """Tells one content of the folder from another."""
    scenario: Scenario
    programs: tuple[Program, ...]
    prompts: tuple[tuple[tuple[int, ...], ...], ...]
    new_tokens: int
    all_logits: bool


class HfAnswer(NamedTuple):
    """One rank's results; tensors are None for a rank without prompts."""

    spans: tuple[Span, ...]
    passes: int
    logits: Tensor | None
    tokens: Tensor | None


@torch.inference_mode()
def run(session: RankSession, order: HfOrder) -> HfAnswer:
    """Do the order. After a failure nothing is given back: this process is about to end."""
    scenario, rank = order.scenario, session.rank
    ops = order.programs[rank].ops
    replicated = all(op.slot is None for program in order.programs for op in program.ops)
    local = range(scenario.model.experts) if replicated else placement(scenario).local(rank)
    loaded = load(session, Path(order.folder), order.version, scenario, local)
    experts = RankExperts(scenario, rank, ops, loaded.store, loaded.peers)
    for layer, module in loaded.modules.items():
        give_source(module, LayerExperts(experts, layer))
    hooks = [
        loaded.model.register_forward_pre_hook(lambda *_: experts.begin()),
        loaded.model.register_forward_hook(lambda *_: experts.end()),
    ]
    logits = tokens = None
    prompts = torch.tensor(order.prompts[rank], dtype=torch.int64)
    if len(prompts):
        session.channel.send(Progress("warming up", 0, 1))
        _forward(loaded.model, prompts, all_logits=False)  # untimed: first calls cost several times the rest
        experts.passes.clear()
    starts, _ = session.gather("start", time.monotonic_ns() + HEAD_START_NS)
    start_ns = max(starts)
    time.sleep(max(0, start_ns - time.monotonic_ns()) / 1e9)
    if len(prompts) and order.new_tokens:
        tokens = _generate(loaded.model, prompts, order.new_tokens)
    elif len(prompts):
        logits = _forward(loaded.model, prompts, order.all_logits)
    for hook in hooks:
        hook.remove()
    experts.close()
    session.gather("ended", None)  # peers may still read what this rank keeps
    spans = [span for number, each in enumerate(experts.passes) for span in _spans(rank, number, each, start_ns)]
    return HfAnswer(tuple(spans), len(experts.passes), logits, tokens)


def _forward(model: Any, prompts: Tensor, all_logits: bool) -> Tensor:
    logits: Tensor = model(prompts, logits_to_keep=0 if all_logits else 1, use_cache=False).logits
    return logits.clone()


def _generate(model: Any, prompts: Tensor, new_tokens: int) -> Tensor:
    """Always the likeliest word."""
    tokens: Tensor = model.generate(
        prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=new_tokens, do_sample=False
    )
    return tokens.clone()


def _spans(rank: int, number: int, ended: Pass, start_ns: int) -> list[Span]:
    spans = []
    for op, (began, ends) in zip(ended.ops, ended.times, strict=True):
        # passes after the first have other work than the scenario's: one token for each sequence
        told = op._replace(step=number, work=op.work if number == 0 else ())
        spans.append(
            span_of(rank, told, (began - start_ns) / 1e3, (ends - start_ns) / 1e3, ended.pulled_bytes.get(op.layer))
        )
    return spans
