"""Workloads: where the ranks' batches come from."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from dwdp_lab.scenario.allowed import NoneWord, Says
from dwdp_lab.scenario.batches import Batch, Batches, Chunk
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.packing import Request, deal, deal_by_load, pack, pack_chunks
from dwdp_lab.scenario.traces import read_trace

# A linear ramp over many ranks has its ends at sqrt(3) standard deviations, so with a larger CV the
# lightest rank would have less than no tokens.
MAX_CV = 0.55
MOST_CV = Says(
    f"a number from 0 to {MAX_CV} (with more the lightest of many ranks would have no tokens; kind explicit takes any "
    "lengths)"
)


# beyond any context window; keeps a slip of the keyboard from running for hours
Tokens = Annotated[int, Field(ge=1, le=10**8)]


class _Workload(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    router_skew: Annotated[float, Field(ge=0, le=4)] = 0.0
    """Zipf exponent of the experts' popularity: 0 is uniform, 1 makes the k-th expert 1/k as popular."""
    seed: NonNegativeInt = 0


class ExplicitWorkload(_Workload):
    """One list of request lengths (tokens) per rank; all of a rank's requests form one pass."""

    kind: Literal["explicit"] = "explicit"
    lengths: Annotated[list[list[Tokens]], Field(min_length=1)]
    prefix_hit: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def batches(self, ranks: int) -> Batches:
        if len(self.lengths) != ranks:
            raise ScenarioError("workload.lengths", self.lengths, f"needs one list of lengths per rank, so {ranks}")
        if not any(self.lengths):
            raise ScenarioError("workload.lengths", self.lengths, "needs a length for at least one rank")
        numbers = itertools.count()
        return Batches(
            tuple(
                (tuple(_chunk(next(numbers), length, self.prefix_hit) for length in lengths),)
                for lengths in self.lengths
            )
        )


class IslWorkload(_Workload):
    """Requests of about `isl_tokens`, packed into passes of at most `mnt_tokens`: whole, or cut where a pass is full
    (`chunked`, as servers with chunked prefill do).

    Lengths are uniform in [isl_ratio * ISL, ISL] (the paper's ISL ratio), or normal with mean ISL and
    standard deviation `isl_std_tokens` when that is given. Requests go to the ranks in turn, or as a scheduler of
    data-parallel attention deals them (`least_loaded`, see packing.deal_by_load).
    """

    kind: Literal["isl"] = "isl"
    isl_tokens: Tokens = 8192
    isl_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    isl_std_tokens: Annotated[float, Field(ge=0, allow_inf_nan=False), Says("a finite number from 0 up")] = 0.0
    mnt_tokens: Tokens = 32768
    steps: Annotated[int, Field(ge=1, le=1024)] = 1
    prefix_hit: Annotated[float, Field(ge=0, lt=1)] = 0.0
    assign: Literal["round_robin", "least_loaded"] = "round_robin"
    chunked: bool = False

    def batches(self, ranks: int) -> Batches:
        passes = pack_chunks if self.chunked else pack
        queues = [self.requests(rank, ranks) for rank in range(ranks)]
        if self.assign == "least_loaded":
            in_turn = itertools.chain.from_iterable(zip(*queues, strict=True))
            queues = deal_by_load(in_turn, ranks, max(1, self.mnt_tokens // self.isl_tokens))
        return Batches(tuple(tuple(itertools.islice(passes(queue, self.mnt_tokens), self.steps)) for queue in queues))

    def requests(self, rank: int, ranks: int) -> Iterator[Request]:
        """One rank's endless queue; the group's requests are numbered as if dealt to the ranks in turn."""
        draw = random.Random(f"isl {self.seed} {rank}")
        for number in itertools.count(rank, ranks):
            if self.isl_std_tokens:
                tokens = round(draw.gauss(self.isl_tokens, self.isl_std_tokens))
            else:
                tokens = round(draw.uniform(self.isl_ratio, 1.0) * self.isl_tokens)
            tokens = max(1, tokens)
            yield Request(number, tokens, min(int(tokens * self.prefix_hit), tokens - 1))


class CvWorkload(_Workload):
    """Passes whose tokens per rank have this mean and CV but for rounding, in requests of `isl_tokens`."""

    kind: Literal["cv"] = "cv"
    tokens_per_rank: Tokens = 1024
    cv: Annotated[float, Field(ge=0, le=MAX_CV), MOST_CV] = 0.2
    isl_tokens: Tokens = 256
    steps: Annotated[int, Field(ge=1, le=1024)] = 1
    prefix_hit: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def batches(self, ranks: int) -> Batches:
        draw = random.Random(f"cv {self.seed}")
        numbers = itertools.count()
        # evenly spaced, mean 0 and standard deviation 1: the CV is met by construction
        ramp = [2 * r - (ranks - 1) for r in range(ranks)]
        deviation = (sum(x * x for x in ramp) / ranks) ** 0.5 or 1.0
        by_rank: list[list[Batch]] = [[] for _ in range(ranks)]
        for step in range(self.steps):
            order = list(range(ranks))
            if step:  # the first step keeps the ramp, so that a picture of one step reads from light to heavy
                draw.shuffle(order)
            for rank, place in enumerate(order):
                tokens = max(1, round(self.tokens_per_rank * (1 + self.cv * ramp[place] / deviation)))
                full, rest = divmod(tokens, self.isl_tokens)
                lengths = [self.isl_tokens] * full + ([rest] if rest else [])
                by_rank[rank].append(tuple(_fresh(next(numbers), length, self.prefix_hit) for length in lengths))
        return Batches(tuple(tuple(steps) for steps in by_rank))


class TraceWorkload(_Workload):
    """Requests of a real trace, dealt to the ranks in order of arrival and packed under a token budget.

    `file` is a path (Azure CSV, Mooncake JSONL, JSON list of lengths) or the name of a list in data/lengths/.
    `divide_by` scales all lengths down (stated in every result), so that a laptop ends in a minute.
    Prefix-cache hits come from the block hashes of traces that have them; a rank keeps every block it saw.
    """

    kind: Literal["trace"] = "trace"
    file: str = "azure-2023-conv-64"
    requests: Annotated[PositiveInt | None, NoneWord] = None
    skip: NonNegativeInt = 0
    divide_by: PositiveInt = 1
    mnt_tokens: Tokens = 8192
    assign: Literal["round_robin", "least_loaded"] = "round_robin"
    prefix_cache: bool = True

    def batches(self, ranks: int) -> Batches:
        requests = read_trace(Path(self.file), self.skip, self.requests)
        queues = deal(requests, ranks, self.assign, self.divide_by, self.prefix_cache)
        packed = [list(pack(queue, self.mnt_tokens)) for queue in queues]
        steps = max(len(p) for p in packed)
        return Batches(tuple((*p, *[()] * (steps - len(p))) for p in packed))


Workload = Annotated[ExplicitWorkload | IslWorkload | CvWorkload | TraceWorkload, Field(discriminator="kind")]


def _chunk(request: int, length: int, prefix_hit: float) -> Chunk:
    """A request of `length` tokens of which a share is found in the cache."""
    cached = min(int(length * prefix_hit), length - 1)
    return Chunk(request, cached, length - cached)


def _fresh(request: int, new_tokens: int, prefix_hit: float) -> Chunk:
    """A request with `new_tokens` to compute that come after a cached prefix of the given share."""
    return Chunk(request, round(new_tokens * prefix_hit / (1 - prefix_hit)), new_tokens)
