"""pipeline: the layers are cut into stages, one per rank, and micro-batches go through them one after another.

What it means here. Rank r keeps the r-th stretch of the layers with all their experts. A micro-batch is one rank's
batch of a step, or a part of it (program/micro_batches.py); all of them, in order of steps and ranks, go through all
stages. This is inference, so there is a forward pass only and plain streaming: a stage computes a micro-batch as soon
as it has come, sends it on and takes the next. The hidden states go from neighbour to neighbour; while a stage computes
it sends the micro-batch before and receives the one after.

With m equal micro-batches on p equal stages a rank computes for m of m + p - 1 periods; the rest, a share of
(p - 1) / (m + p - 1), is the bubble (Huang et al., "GPipe", arXiv 1811.06965). Uneven micro-batches make it larger.
With fewer layers than ranks some ranks keep none and do nothing.

A stage may run ahead of the next: what came for each micro-batch lies in a place of its own until it is computed. A
rank is done when its last micro-batch has left it, and free for what comes after.

The outputs are the last stage's. In service they go no further, only the tokens chosen from them do; rank processes
hand them to the ranks whose requests they are after the clock has stopped, to be compared.
"""

from __future__ import annotations

from collections.abc import Iterator

from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView


def pipeline(rank: RankView) -> Iterator[Op]:
    layers = rank.stages[rank.rank]
    if not layers:
        return
    source = next((peer for peer, stage in enumerate(rank.stages) if layers.start - 1 in stage), None)
    target = next((peer for peer, stage in enumerate(rank.stages) if layers.stop in stage), None)
    for step in rank.all_steps:
        for micro in range(len(rank.micro_batches(step))):
            received: tuple[str, ...] = ()
            if source is not None:
                yield rank.recv_hidden(step, layers.start, micro, source, signals="received")
                received = ("received",)
            for layer in layers:
                yield rank.attention(step, layer, waits=received if layer == layers.start else (), micro=micro)
                done = "computed" if layer == layers[-1] and target is not None else None
                if layer in rank.moe_layers:
                    yield rank.route(step, layer, micro=micro)
                    yield rank.experts(step, layer, signals=done, micro=micro)
                else:
                    yield rank.dense(step, layer, signals=done, micro=micro)
            if target is not None:
                yield rank.send_hidden(step, layers.stop, micro, target, waits=("computed",))
