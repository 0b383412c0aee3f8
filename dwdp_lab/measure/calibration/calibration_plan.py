"""What calibration measures on each machine: single kernels, and small scenarios whose operations are the samples."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

from dwdp_lab.measure.calibration.kernels_plan import Core, KernelPlan, Product
from dwdp_lab.measure.transfers.transfers import MachineName
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName

MIB = 1 << 20

SETTLE_US = 60_000.0
"""Under full load a GPU's clock falls to what the power limit allows within some tens of milliseconds: from 1,960 to
1,710 MHz on an H200. Kernels timed after that run as they do in passes of many tokens, one after another."""

FULL_LOAD_TOKENS = 16384
LASTING_TOKENS = 6 * FULL_LOAD_TOKENS
"""Runs with so many tokens a step or more are as long as it takes for so many in all, about 40 ms on an H200: their
operations see part of that fall, as those of `bench strategies` do."""

AT_LIMIT_LAYERS, AT_LIMIT_STEPS = 8, 64
"""Steps of 8 layers take about 30 ms on an H200: the first ones end before its clock falls, and all 64 take two
seconds, in the second half of which nothing changes any more."""


class CalibrationPlan(NamedTuple):
    """Kernels to time, and scenarios to run by what their operations are samples of. `passes`: as often each is run.

    `scaled` are samples of compute with experts in e4m3, for machines that have it.
    `beside` pulls all the time while it computes; its replicated run is what that is compared with.
    `at_limit`, a replicated run and the same under DWDP, are long enough for what lasts, and run once each, at the end.
    """

    kernels: KernelPlan
    compute: tuple[Scenario, ...]
    scaled: tuple[Scenario, ...]
    pulls: tuple[Scenario, ...]
    exchanges: tuple[Scenario, ...]
    beside: Scenario
    passes: int
    at_limit: tuple[Scenario, ...] = ()

    def scenarios(self) -> list[Scenario]:
        """All that are run once a pass."""
        return [
            *self.compute,
            *self.scaled,
            *self.pulls,
            *self.exchanges,
            self.beside,
            self.beside.with_strategy("replicated"),
        ]


def calibration_plan(machine: MachineName, ranks: int, quick: bool = False) -> CalibrationPlan:
    """What is measured on this machine with so many ranks; `quick` is a tenth of it, for trying the command out."""
    plan = _cpu_plan(ranks) if machine == "cpu" else _cuda_plan(ranks)
    if not quick:
        return plan
    kernels = plan.kernels._replace(least_us=plan.kernels.least_us / 10, settle_us=plan.kernels.settle_us / 10)

    def brief(scenarios: tuple[Scenario, ...]) -> tuple[Scenario, ...]:
        return tuple(one.replace(**{"workload.steps": 2}) for one in scenarios)

    return plan._replace(
        kernels=kernels, compute=brief(plan.compute), scaled=brief(plan.scaled[:1]), passes=1, at_limit=()
    )


def _model(name: str, layers: int, **fields: Any) -> dict[str, Any]:
    return {"preset": "tiny", "name": name, "layers": layers, **fields}


def _scaled(model: dict[str, Any]) -> dict[str, Any]:
    """The same model, its experts in e4m3."""
    return model | {"expert_dtype": "fp8_channel"}


def _scenario(
    model: dict[str, Any], ranks: int, tokens: int, isl: int, strategy: StrategyName, steps: int, **knobs: Any
) -> Scenario:
    return Scenario.create(
        model=model,
        group={"ranks": ranks},
        strategy={"name": strategy, **knobs},
        workload={"kind": "cv", "cv": 0.0, "tokens_per_rank": tokens, "isl_tokens": min(isl, tokens), "steps": steps},
    )


def _cpu_plan(ranks: int) -> CalibrationPlan:
    """Two small models of different widths, so that products and what is not fused are told apart."""
    narrow = _model("narrow", 2)
    heads = {"heads": 8, "kv_heads": 4, "head_dim": 32}
    wide = _model("wide", 2, hidden=256, attention=heads, experts=16, top_k=4, expert_intermediate=256)
    heavy = _model("heavy", 2, hidden=256, attention=heads, expert_intermediate=2048)
    kernels = KernelPlan(
        "cpu",
        ("fp32", "bf16", "fp16"),
        Product(512, 512, 512),
        tuple(Product(rows, *size) for rows, size in product((16, 128, 1024), ((64, 128), (256, 512)))),
        (Core(64, 4, 2, 16), Core(256, 4, 2, 16), Core(1024, 4, 2, 16), Core(256, 8, 4, 32), Core(1024, 8, 4, 32)),
        (64 << 10, MIB, 64 * MIB),
        20_000,
    )
    compute = [_scenario(narrow, ranks, *size, "replicated", 2) for size in _sizes((16, 64, 256, 1024, 4096))]
    compute += [_scenario(wide, ranks, *size, "replicated", 2) for size in _sizes((16, 64, 256, 1024))]
    scaled = [
        _scenario(_scaled(model), ranks, tokens, 256, "replicated", 2)
        for model, tokens in product((narrow, wide), (256, 1024))
    ]
    alone = {"overlap": False, "weight_view": "merged"}
    pulls = [
        _scenario(model, ranks, 4, 4, "dwdp", 2, **alone, **knobs)
        for model, knobs in product((narrow, wide, heavy), ({}, *_sliced(1024, 2048, 4096)))
    ]
    exchanges = [
        _scenario(model, ranks, tokens, 256, "dep", 2, dep_form=form)
        for model, tokens, form in product((narrow, wide), (16, 128, 512), ("all_to_all", "all_gather"))
    ]
    exchanges += [_scenario(model, ranks, 4, 4, "weight_gather", 1) for model in (narrow, wide)]
    beside = _scenario(heavy, ranks, 8, 8, "dwdp", 3, cross_step=True, slots=3)
    return CalibrationPlan(kernels, tuple(compute), tuple(scaled), tuple(pulls), tuple(exchanges), beside, passes=5)


def _cuda_plan(ranks: int) -> CalibrationPlan:
    """Layers of three models in bf16."""
    heads = {"heads": 32, "kv_heads": 4, "head_dim": 128}
    bf16 = {"dtype": "bf16", "expert_dtype": "bf16", "attention": heads}
    small = _model("many small experts", 2, hidden=2048, experts=128, top_k=8, expert_intermediate=768, **bf16)
    large = _model("few large experts", 2, hidden=4096, experts=16, top_k=2, expert_intermediate=4096, **bf16)
    kernels = KernelPlan(
        "cuda",
        ("bf16", "fp16", "fp32"),
        Product(8192, 8192, 8192),
        tuple(Product(rows, *size) for rows, size in product((64, 1024, 16384), ((2048, 2048), (4096, 8192)))),
        tuple(Core(tokens, 32, 4, 128) for tokens in (512, 2048, 8192)),
        (16 * MIB, 256 * MIB, 1024 * MIB),
        80_000,
        SETTLE_US,
    )
    tokens = (64, 512, 4096, 16384, 32768)
    compute = [_lasting(small, ranks, *size) for size in _sizes(tokens, 4096)]
    compute += [_lasting(large, ranks, *size) for size in _sizes(tokens[1:-1], 4096)]
    scaled = [
        _lasting(_scaled(model), ranks, tokens, 4096)
        for model, tokens in ((small, 4096), (small, 16384), (large, 4096), (large, 16384))
    ]
    alone = {"overlap": False, "weight_view": "merged"}
    pulls = [
        _scenario(model, ranks, 64, 64, "dwdp", 2, **alone, **knobs)
        for model, knobs in product((small, large), ({}, *_sliced(MIB, MIB * 3 // 2, 2 * MIB, 8 * MIB)))
    ]
    exchanges = [
        _scenario(small, ranks, count, 4096, "dep", 2, dep_form=form)
        for count, form in product((64, 2048, 16384), ("all_to_all", "all_gather"))
    ]
    exchanges += [_scenario(model, ranks, 64, 64, "weight_gather", 1) for model in (small, large)]
    beside = _scenario(large, ranks, 2048, 2048, "dwdp", 3, cross_step=True, slots=3)
    deep = small | {"layers": AT_LIMIT_LAYERS}
    replicated = _scenario(deep, ranks, FULL_LOAD_TOKENS, 256, "replicated", AT_LIMIT_STEPS, cross_step=True)
    return CalibrationPlan(
        kernels,
        tuple(compute),
        tuple(scaled),
        tuple(pulls),
        tuple(exchanges),
        beside,
        passes=3,
        at_limit=(replicated, replicated.with_strategy("dwdp")),
    )


def _lasting(model: dict[str, Any], ranks: int, tokens: int, isl: int) -> Scenario:
    """A replicated run of two steps, or of as many as it takes to be under full load for a while."""
    steps = LASTING_TOKENS // tokens if tokens >= FULL_LOAD_TOKENS else 2
    return _scenario(model, ranks, tokens, isl, "replicated", steps)


def _sliced(*sizes: int) -> list[dict[str, Any]]:
    """Knobs for pulls in many copies. Several sizes, since what a copy costs shows in the small ones alone, and no
    single one of them, which may have been disturbed, should decide it."""
    return [{"slice_bytes": size, "peer_order": "interleaved"} for size in sizes]


def _sizes(tokens: tuple[int, ...], longest: int = 256) -> list[tuple[int, int]]:
    """(tokens, request length): requests of at most `longest`, and once of four times that, for attention's square."""
    found = [(count, min(count, longest)) for count in tokens]
    long = 4 * longest
    return [*found, (long, long)] if long in tokens else found
