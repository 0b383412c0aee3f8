"""FLOPs and bytes of every operation: what has to be done, whatever machine does it.

A matrix product of T rows with a K x N weight costs 2 T K N FLOPs and reads its weight once. What other kernels read
and write is counted apart (unit `activations`), so that a bound may leave it out, as fused kernels could. It is counted
as if each did one thing; GPU ranks add and norm hidden states in one pass, and so need a little less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property

from dwdp_lab.program.micro_batches import MicroBatch, micro_batches
from dwdp_lab.program.operation import Collective, Work
from dwdp_lab.program.placement import placement
from dwdp_lab.scenario.batches import Batch
from dwdp_lab.scenario.precision import BYTES_PER_PARAM, CHANNEL_SCALE_BYTES, Precision, computed_in
from dwdp_lab.scenario.router import visit_probability
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import Share, narrowed

Works = tuple[Work, ...]


@dataclass(frozen=True)
class WorkModel:
    """Work of one scenario's operations, of all its ranks. Expert rows are expected values under the router's skew."""

    scenario: Scenario
    _known: dict[Hashable, Works] = field(default_factory=dict, repr=False)
    _copies: dict[int, tuple[float, ...]] = field(default_factory=dict, repr=False)
    _met: dict[tuple[int, int], tuple[tuple[float, float], ...]] = field(default_factory=dict, repr=False)
    _micro: dict[int, tuple[MicroBatch, ...]] = field(default_factory=dict, repr=False)
    _narrowed: dict[Hashable, WorkModel] = field(default_factory=dict, repr=False)

    @cached_property
    def _placement_cuts(self) -> tuple[range, ...]:
        where = placement(self.scenario)
        return tuple(where.computed(rank) for rank in range(where.ranks))

    def _once(self, key: Hashable, make: Callable[[], Works]) -> Works:
        """Ranks and steps with the same tokens do the same work: one object for all of them."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = make()
        return known

    def micro_batches(self, step: int) -> tuple[MicroBatch, ...]:
        """The micro-batches of a step, of all ranks."""
        if step not in self._micro:
            self._micro[step] = micro_batches(self.scenario, step)
        return self._micro[step]

    def narrowed(self, share: Share) -> WorkModel:
        """Work of layers as narrow as one rank's share; most ranks of `tensor` have equal ones."""
        widths = tuple(map(len, share))
        if widths not in self._narrowed:
            model = narrowed(self.scenario.model, share)
            self._narrowed[widths] = WorkModel(self.scenario.model_copy(update={"model": model}))
        return self._narrowed[widths]

    def visits(self, layer: int) -> tuple[float, ...]:
        """Expected visits of one token to each expert of a layer; they sum to top_k."""
        model, workload = self.scenario.model, self.scenario.workload
        return visit_probability(model.experts, model.top_k, workload.router_skew, workload.seed, layer)

    def visited(self, tokens: int, layer: int) -> tuple[float, ...]:
        """For each expert of a layer the probability that any of so many tokens visits it."""
        return tuple([1.0 - (1.0 - share) ** tokens for share in self.visits(layer)])

    def _gemm(self, tokens: float, params: float, dtype: Precision | None = None) -> Work:
        """A dense product with a weight of so many parameters."""
        dtype = dtype or self.scenario.model.dtype
        return Work("gemm", dtype, 2.0 * params * tokens, params * BYTES_PER_PARAM[dtype])

    def _activations(self, elements: float) -> Work:
        """What kernels that are not fused into a product read and write: norms, rotary, SwiGLU, (un)permuting."""
        model = self.scenario.model
        return Work("activations", model.dtype, 0.0, elements * model.activation_bytes)

    def attention(self, batch: Batch, layer: int) -> Works:
        """Projections and the causal core, quadratic per request; a window limits every other layer."""
        window = self.scenario.model.attention.window if layer % 2 == 0 else None
        return self._once((batch, window), lambda: self._attention(batch, window))

    def _attention(self, batch: Batch, window: int | None) -> Works:
        model = self.scenario.model
        heads = model.attention
        tokens = sum(chunk.new_tokens for chunk in batch)
        if not tokens:
            return ()
        pairs = sum(windowed_pairs(c.context_tokens, c.new_tokens, window) for c in batch)
        keys = sum(c.new_tokens + min(c.context_tokens, window or c.context_tokens) for c in batch)
        elements = tokens * heads.query_elements_per_token() + keys * heads.kv_elements_per_token()
        flops = float(pairs * heads.core_flops_per_pair())
        output = heads.output_params(model.hidden)
        inputs = self._gemm(tokens, heads.projection_params(model.hidden) - output, model.dense_dtype)
        again = 2.0 * heads.context_params() * sum(chunk.context_tokens for chunk in batch)
        return (
            inputs._replace(flops=inputs.flops + again),
            # norm (in, out), rotary and cache (q, k, v in, out)
            self._activations(tokens * (2 * model.hidden + 2 * heads.qkv_elements_per_token())),
            Work("attention", model.dtype, flops, elements * model.activation_bytes),
            self._gemm(tokens, output, model.dense_dtype),
            self._activations(3 * tokens * model.hidden),  # residual (two in, one out)
        )

    def dense(self, tokens: int) -> Works:
        """The SwiGLU MLP of a dense layer."""
        model = self.scenario.model
        if not tokens:
            return ()
        unfused = tokens * (5 * model.hidden + 3 * model.dense_intermediate)
        params = 3 * model.hidden * model.dense_intermediate
        return (self._gemm(tokens, params, model.dense_dtype), self._activations(unfused))

    def route(self, tokens: int) -> Works:
        """Norm, router logits and top-k."""
        model = self.scenario.model
        if not tokens:
            return ()
        return (self._gemm(tokens, model.hidden * model.experts), self._activations(2 * tokens * model.hidden))

    def experts(self, tokens: int) -> Works:
        """All experts for this rank's own tokens (replicated, weight_gather, dwdp).

        The same in every layer: layers differ in which experts are popular, and these are sums over all experts.
        """

        def make() -> Works:
            return self._experts(tokens * math.fsum(self.visits(0)), math.fsum(self.visited(tokens, 0)), tokens)

        return self._once(("experts", tokens), make)

    def computed_experts(self, rank: int, step: int, layer: int) -> Works:
        """The experts this rank computes under DEP, for all ranks' tokens; shared experts for its own."""
        rows, touched = self._met_by_rank(step, layer)[rank]
        return self._experts(rows, touched, self.scenario.batches.tokens(rank, step))

    def _met_by_rank(self, step: int, layer: int) -> tuple[tuple[float, float], ...]:
        """Of the experts that each rank computes: the rows of all ranks' tokens, and how many experts have any."""
        if (step, layer) not in self._met:
            everyone = sum(self.scenario.batches.tokens_by_step[step])
            visits, visited = self.visits(layer), self.visited(everyone, layer)
            self._met[step, layer] = tuple(
                [
                    (everyone * math.fsum(visits[own.start : own.stop]), math.fsum(visited[own.start : own.stop]))
                    for own in self._placement_cuts
                ]
            )
        return self._met[step, layer]

    def _experts(self, rows: float, touched: float, own_tokens: int) -> Works:
        """So many rows, which need the weights of the experts touched; shared experts for the rank's own tokens."""
        model = self.scenario.model
        terms = []
        if rows:
            terms.append(
                Work(
                    "grouped_gemm",
                    computed_in(model.expert_dtype),
                    2.0 * model.expert_params * rows,
                    touched * model.expert_bytes,
                    rows / touched,
                )
            )
        if model.shared_experts and own_tokens:
            params = model.shared_experts * model.expert_params
            terms.append(self._gemm(own_tokens, params, model.shared_dtype))
        if rows or own_tokens:
            # a row: permuted (in, out), SwiGLU (two in, one out), summed (in); a token: residual (two in, one out)
            unfused = rows * (3 * model.hidden + 3 * model.expert_intermediate) + own_tokens * 3 * model.hidden
            if model.shared_experts:  # side by side as one wide MLP: SwiGLU, summed (in)
                unfused += own_tokens * (3 * model.shared_experts * model.expert_intermediate + model.hidden)
            terms.append(self._activations(unfused))
        if model.expert_dtype == "fp8_channel":
            # a token once, at home, and wherever it visits an expert the product of gate and up
            quantised = (own_tokens, model.hidden), (rows, model.expert_intermediate)
            terms += [self._quantising(*each) for each in quantised if each[0]]
        return tuple(terms)

    def _quantising(self, rows: float, columns: int) -> Work:
        """Rows read as they are, and written in e4m3 with a scale each."""
        model = self.scenario.model
        nbytes = rows * (columns * (model.activation_bytes + 1.0) + CHANNEL_SCALE_BYTES)
        return Work("activations", model.dtype, 0.0, nbytes)

    def merge(self) -> Works:
        """Copying the local experts into the staging slot: read and written once."""
        scenario = self.scenario
        nbytes = 2.0 * scenario.local_experts * scenario.model.expert_bytes
        return (Work("memory", computed_in(scenario.model.expert_dtype), 0.0, nbytes),)

    def copies_to(self, target: int, layer: int) -> float:
        """Expected rows that one token of another rank sends to `target` in an all-to-all.

        Per expert, its visits to the experts there; per rank, the probability of any such visit, which for a uniform
        router is exact, 1 - C(E - m, k) / C(E, k) for m experts, and otherwise takes the visits as independent (up to
        a tenth too low, when few experts get most visits).
        """
        return self._copies_by_rank(layer)[target]

    def _copies_by_rank(self, layer: int) -> tuple[float, ...]:
        if layer not in self._copies:
            self._copies[layer] = tuple([self._expected_copies(experts, layer) for experts in self._placement_cuts])
        return self._copies[layer]

    def _expected_copies(self, experts: range, layer: int) -> float:
        model = self.scenario.model
        visits = self.visits(layer)[experts.start : experts.stop]
        if self.scenario.strategy.dep_rows == "per_expert":
            return math.fsum(visits)
        if not self.scenario.workload.router_skew:
            none = math.comb(model.experts - len(experts), model.top_k) / math.comb(model.experts, model.top_k)
            return 1.0 - none
        return 1.0 - math.prod(1.0 - share for share in visits)

    def dispatch(self, rank: int, step: int, layer: int) -> Collective:
        """All-to-all of hidden rows to their experts' ranks."""
        tokens, copies = self.scenario.batches.tokens(rank, step), self._copies_by_rank(layer)
        row = self.scenario.model.hidden * self.scenario.model.dispatch_bytes
        return _all_but(rank, [row * (tokens * each) for each in copies])

    def combine(self, rank: int, step: int, layer: int) -> Collective:
        """The way back: a rank returns the rows it computed for its peers."""
        tokens, copies = self.scenario.batches.tokens_by_step[step], self.copies_to(rank, layer)
        row = self.scenario.model.hidden * self.scenario.model.activation_bytes
        return _all_but(rank, [row * (each * copies) for each in tokens])

    def gather_tokens(self, rank: int, step: int) -> Collective:
        """All-gather: every rank gets all tokens."""
        row = self.scenario.model.hidden * self.scenario.model.dispatch_bytes
        return self._to_all(rank, row * self.scenario.batches.tokens(rank, step))._replace(once_per_node=True)

    def reduce_tokens(self, rank: int, step: int) -> Collective:
        """Reduce-scatter: every rank gets the others' partial sums of its own tokens."""
        row = self.scenario.model.hidden * self.scenario.model.activation_bytes
        sums = _all_but(rank, [row * tokens for tokens in self.scenario.batches.tokens_by_step[step]])
        return sums._replace(once_per_node=True)

    def gather_weights(self, rank: int) -> Collective:
        """All-gather of a layer's experts: every rank sends those it computes under DEP to all others."""
        nbytes = float(len(self._placement_cuts[rank]) * self.scenario.model.expert_bytes)
        return self._to_all(rank, nbytes)._replace(once_per_node=True)

    def all_reduce(self, rank: int, tokens: int) -> Collective:
        """All-reduce of [tokens, H]: every rank sends 2 (N - 1) / N of it, half to add up, half to spread the sums.

        Each peer gets an equal part of that, as when each rank adds up the rows of 1 / N of the tokens; in a ring one
        peer would get all of it, which only matters where ranks are joined one to one.
        """
        model = self.scenario.model
        nbytes = 2.0 / self.scenario.ranks * tokens * model.hidden * model.activation_bytes
        return self._to_all(rank, nbytes)._replace(once_per_node=True)

    def message(self, to: int, tokens: int) -> Collective:
        """Hidden states of so many tokens for one other rank."""
        model = self.scenario.model
        nbytes = [0.0] * self.scenario.ranks
        nbytes[to] = tokens * model.hidden * model.activation_bytes
        return Collective(tuple(nbytes))

    def _to_all(self, rank: int, nbytes: float) -> Collective:
        return _all_but(rank, [nbytes] * self.scenario.ranks)


def _all_but(rank: int, nbytes: list[float]) -> Collective:
    """So many bytes for each rank, none for itself."""
    nbytes[rank] = 0.0
    return Collective(tuple(nbytes))


def windowed_pairs(context: int, new: int, window: int | None) -> int:
    """(query, key) pairs of causal attention in which a query sees itself and at most window - 1 tokens before it.

    >>> windowed_pairs(0, 4, None), windowed_pairs(2, 2, None), windowed_pairs(0, 4, 2)
    (10, 7, 7)
    """
    if window is None:
        return new * context + new * (new + 1) // 2
    growing = max(0, min(new, window - context))  # queries that still see everything before them
    return growing * context + growing * (growing + 1) // 2 + (new - growing) * window
