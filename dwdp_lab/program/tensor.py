"""tensor: every layer is cut across its width. All ranks work on all tokens, and add up their parts twice a layer.

What it means here. In the other strategies each rank has a batch of its own in a step; here the N ranks together
process all of them, so step s of the group covers what step s of every rank covers, and outputs are compared batch by
batch. A rank keeps a stretch of the query heads, with the keys and values they look at, and a stretch of the columns of
every MLP, all experts included (scenario/shares.py). What it computes is a part of a sum: after attention's output
projection and after the MLP an all-reduce adds the parts of all ranks, in rank order, and the residual. Norms and the
router are whole on every rank, which does their work for all tokens (Shoeybi et al., "Megatron-LM", arXiv 1909.08053).

Nobody waits for a longer prompt elsewhere, as every rank has the same tokens. The price is the traffic: 4 (N - 1) / N
rows sent for each token of the group and layer, none of it behind any compute.
"""

from __future__ import annotations

from collections.abc import Iterator

from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.program.tensor_view import TensorView


def tensor(rank: RankView) -> Iterator[Op]:
    view = TensorView(rank)
    for step in view.busy_steps:
        hidden_ready: tuple[str, ...] = ()
        for layer in rank.layers:
            yield view.attention(step, layer, waits=hidden_ready, signals="part")
            yield view.all_reduce("all_reduce_attention", step, layer, waits=("part",), signals="attended")
            if layer in rank.moe_layers:
                yield view.route(step, layer, waits=("attended",))
                yield view.experts(step, layer, signals="part")
            else:
                yield view.dense(step, layer, waits=("attended",), signals="part")
            yield view.all_reduce("all_reduce_mlp", step, layer, waits=("part",), signals="summed")
            hidden_ready = ("summed",)
