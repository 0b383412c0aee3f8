"""What a rank prepares before a run is timed: inputs, caches, its share of layers, and its end of collectives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.compute import decoder_layers
from dwdp_lab.execute.cuda.experts.run_experts import RunExperts
from dwdp_lab.execute.cuda.kept import Kept
from dwdp_lab.execute.cuda.meetings.meeting import Meeting
from dwdp_lab.execute.messages import Order
from dwdp_lab.execute.tokens import Place, Tokens, place_of, token_batches, tokens_of
from dwdp_lab.model.inputs import cached_kv, hidden_inputs
from dwdp_lab.model.layers import KV
from dwdp_lab.model.narrow import kv_of_head, narrow_cache
from dwdp_lab.model.supported import torch_dtype
from dwdp_lab.model.weights import LayerWeights
from dwdp_lab.program.operation import ALL_REDUCES, MESSAGES, Lane, Op
from dwdp_lab.scenario.batches import Batch
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import Share, narrowed, share_of


@dataclass
class Setup:
    """All that one run reads. `share` is None where each rank keeps all of its layers; `shape` is as wide as what the
    rank keeps; `meeting` is None for programs in which ranks need not meet."""

    scenario: Scenario
    rank: int
    share: Share | None
    shape: ModelShape
    layers: dict[int, LayerWeights]
    batches: dict[Tokens, Batch]
    inputs: dict[Tokens, Tensor]
    attention: dict[Place, decoder_layers.Tokens]
    kv_of_head: Tensor | None
    """Which of the rank's key heads each of its query heads looks at, where that is not as many each."""
    experts: RunExperts
    meeting: Meeting | None
    lanes: frozenset[Lane]
    """Those that read or write hidden states and what comes of them; not those that only move weights."""
    outputs: bool
    beside_collectives: bool = False
    """Whether ranks compute while a collective or a message of theirs is under way that needs processors."""
    notes: list[str] = field(default_factory=list)

    @property
    def met(self) -> Meeting:
        if self.meeting is None:
            raise ValueError("the program has no operation in which ranks meet")
        return self.meeting

    @property
    def dtype(self) -> torch.dtype:
        """What hidden states are kept in."""
        return torch_dtype(self.shape.dtype, "model.dtype")

    @property
    def attends(self) -> bool:
        """Whether the rank has any head; of `tensor` some may have none."""
        return self.share is None or bool(self.share.heads)

    def sizes(self, step: int) -> list[int]:
        """New tokens of every rank in a step."""
        return [self.scenario.batches.tokens(rank, step) for rank in range(self.scenario.ranks)]

    def rows(self, tokens: Tokens) -> int:
        """New tokens of a step or micro-batch that this rank works on."""
        return sum(chunk.new_tokens for chunk in self.batches[tokens])


def prepare(
    where: torch.device, kept: Kept, experts: RunExperts, meeting: Meeting | None, order: Order, rank: int
) -> Setup:
    """Inputs and caches of one order, on the device."""
    scenario, ops = order.scenario, order.program.ops
    shape, seed = scenario.model, scenario.workload.seed
    share = share_of(shape, scenario.ranks, rank) if order.kinds & ALL_REDUCES else None
    batches = token_batches(order, rank)
    looked_at = kv_of_head(shape, share) if share is not None else None
    begun = {tokens_of(op) for op in ops if op.kind == "attention" and not op.layer}
    return Setup(
        scenario=scenario,
        rank=rank,
        share=share,
        shape=shape if share is None else narrowed(shape, share),
        layers=kept.layers,
        batches=batches,
        inputs={
            tokens: hidden_inputs(shape, batch, seed, where)
            for tokens, batch in batches.items()
            if tokens in begun or not order.in_micro_batches
        },
        attention=_attention(shape, seed, batches, ops, share, where),
        kv_of_head=None if looked_at is None else torch.tensor(looked_at, device=where),
        experts=experts,
        meeting=meeting,
        lanes=frozenset(op.lane for op in ops if not _moves_weights(op)),
        outputs=order.outputs,
        beside_collectives=_beside_collectives(order, meeting),
        notes=[*experts.notes, *_notes(order, meeting)],
    )


def _beside_collectives(order: Order, meeting: Meeting | None) -> bool:
    """Weights that arrive beside compute are read out of mailboxes by kernels, which would find no place either beside
    programs that stay for a whole GEMM; a message is waited for anyhow."""
    waits_on_processors = meeting is not None and meeting.holds_processors
    return "gather_weights" in order.kinds or bool(order.kinds & MESSAGES and waits_on_processors)


def _notes(order: Order, meeting: Meeting | None) -> list[str]:
    notes = []
    if order.scenario.link_gbps is not None and order.kinds & {"pull", "send"}:
        notes.append("link_gbps slows down simulated links and CPU copies only: copies here are as fast as they are")
    masked = meeting is not None and meeting.leaves_rows_out and order.scenario.strategy.dep_rows == "per_rank"
    if masked and "dispatch" in order.kinds:
        notes.append("an all-to-all's rows are written into peers' memory by a kernel, and the host reads no counts")
    return notes


def _moves_weights(op: Op) -> bool:
    return op.kind == "gather_weights" or (op.pull is not None and not op.pull.routed)


def _attention(
    shape: ModelShape,
    seed: int,
    batches: dict[Tokens, Batch],
    ops: Iterable[Op],
    share: Share | None,
    where: torch.device,
) -> dict[Place, decoder_layers.Tokens]:
    """What every attention has to know of its tokens; of keys and values in the cache what the rank keeps."""
    angles = {tokens: decoder_layers.angles(shape, batch, where) for tokens, batch in batches.items()}
    found: dict[Place, decoder_layers.Tokens] = {}
    for op in ops:
        if op.kind == "attention":
            tokens = tokens_of(op)
            cache: list[KV | None] = []
            for chunk in batches[tokens]:
                cached = cached_kv(shape, op.layer, chunk, seed, where) if chunk.context_tokens else None
                cache.append(cached if cached is None or share is None else narrow_cache(cached, share))
            found[place_of(op)] = decoder_layers.Tokens(batches[tokens], *angles[tokens], cache)
    return found
