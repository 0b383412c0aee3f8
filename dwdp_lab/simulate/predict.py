"""Would DWDP help this model on this machine? Every strategy simulated, with what limits it and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dwdp_lab.program.build import STRATEGIES
from dwdp_lab.program.memory import Ledger, ledger
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.simulate.advice import advise
from dwdp_lab.simulate.bound import Bound, bound_of
from dwdp_lab.simulate.crossover import crossover
from dwdp_lab.simulate.faster_dep import with_the_faster_dep
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.outcome import Remembering
from dwdp_lab.simulate.over_ranks import OfRanks, over_ranks
from dwdp_lab.simulate.paper_data import fitted_router_skew
from dwdp_lab.simulate.physics import BOUND, REALISTIC, Physics
from dwdp_lab.simulate.search import Best, best_settings
from dwdp_lab.simulate.shortened import brief, few_layers

GROUP_SIZES = (2, 3, 4, 6, 8)
"""The table over N, beside the scenario's own N."""


@dataclass(frozen=True)
class StrategyFigures:
    """One strategy's means over ranks and steps."""

    step_ms: float
    tokens_per_s_per_gpu: float
    bound: Bound
    communication_ms: float
    exposed_copy_ms: float
    wait_on_peers_ms: float


@dataclass(frozen=True)
class Prediction:
    """What the simulator says of a scenario on a machine.

    `crossover_tokens` is the fewest tokens per rank and pass with which DWDP is no slower than DEP (None: never);
    `provenance` says for each group of numbers where it comes from.
    """

    scenario: Scenario
    hardware: Hardware
    strategies: dict[StrategyName, StrategyFigures]
    memory: dict[StrategyName, Ledger]
    crossover_tokens: int | None
    best: Best
    over_ranks: tuple[OfRanks, ...]
    provenance: dict[str, str]

    @property
    def dwdp_over_dep(self) -> float:
        """Tokens per second and GPU of DWDP as a multiple of DEP's."""
        return self.strategies["dwdp"].tokens_per_s_per_gpu / self.strategies["dep"].tokens_per_s_per_gpu

    @property
    def advice(self) -> str:
        """One sentence."""
        return advise(
            tokens_per_s={name: one.tokens_per_s_per_gpu for name, one in self.strategies.items()},
            dep_exchange=self.strategies["dep"].communication_ms / self.strategies["dep"].step_ms,
            dep_wait=self.strategies["dep"].wait_on_peers_ms / self.strategies["dep"].step_ms,
            dwdp_exposed=self.strategies["dwdp"].exposed_copy_ms / self.strategies["dwdp"].step_ms,
            crossover_tokens=self.crossover_tokens,
            memory_gb={name: one.total / 1e9 for name, one in self.memory.items()},
            one_slot_gb=_with_one_slot(self.scenario).total / 1e9,
            capacity_gb=self.hardware.memory_gb.value,
            best=self.best,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: the figures, and under `details` what they rest on."""
        return {
            "strategies": {name: asdict(figures) for name, figures in self.strategies.items()},
            "dwdp_over_dep": self.dwdp_over_dep,
            "crossover_tokens": self.crossover_tokens,
            "memory_gb_per_rank": {name: one.total / 1e9 for name, one in self.memory.items()},
            "advice": self.advice,
            "details": {
                "scenario": self.scenario.to_dict(),
                "memory_ledger_gb": {name: one.gb() for name, one in self.memory.items()},
                "memory_capacity_gb": self.hardware.memory_gb.value,
                "best": asdict(self.best),
                "over_ranks": [asdict(row) | {"dwdp_over_dep": row.dwdp_over_dep} for row in self.over_ranks],
                "provenance": self.provenance,
                "hardware": self.hardware.model_dump(mode="json", exclude_none=True),
            },
        }


def physics_for(hardware: Hardware) -> Physics:
    """All effects where the profile says what the machine reaches, else the bound that data sheets give."""
    return BOUND if hardware.reached is None else REALISTIC


def predict(
    scenario: Scenario,
    hardware: Hardware | None = None,
    sizes: Sequence[int] | None = None,
    physics: Physics | None = None,
    say: Callable[[str], object] = str,  # nobody listens: nothing happens
) -> Prediction:
    """Simulate all strategies of a scenario; DEP in the faster of its two forms where `dep_form` is auto.

    `sizes` are the group sizes of the table over N (default: 2 to 8 and the scenario's own), `physics` the effects
    (default: as `physics_for` the profile). `say` is told what is simulated next, for 72 ranks take minutes. Raises
    ScenarioError for a profile that is unknown or cannot run the model.
    """
    profile = hardware or load_hardware(scenario.hardware)
    asked, physics = physics, physics or physics_for(profile)
    simulate = Remembering()
    given = scenario
    scenario = with_the_faster_dep(scenario, profile, physics, simulate)
    short = few_layers(brief(scenario))
    strategies = {}
    for name in STRATEGIES:
        say(f"simulating {name}")
        figures = simulate(scenario.with_strategy(name), profile, physics).metrics
        strategies[name] = StrategyFigures(
            figures.step_ms,
            figures.tokens_per_s,
            bound_of(short.with_strategy(name), profile, physics, simulate),
            figures.communication_ms,
            figures.exposed_copy_ms,
            figures.wait_on_peers_ms,
        )
    if sizes is None:
        sizes = sorted({*GROUP_SIZES, scenario.ranks})
    if scenario.workload.kind == "explicit":
        sizes = [scenario.ranks]  # its lists are one per rank
    say("looking for the crossover")
    crossover_tokens = crossover(scenario, profile, physics)
    say("trying settings of DWDP")
    best = best_settings(scenario, profile, physics, simulate)
    say("simulating other group sizes")
    others = over_ranks(given, profile, physics, sizes, simulate)
    return Prediction(
        scenario,
        profile,
        strategies,
        {name: ledger(scenario, name) for name in STRATEGIES},
        crossover_tokens,
        best,
        others,
        _provenance(scenario, profile, physics)
        | _about_lasting(profile, asked, min(figures.step_ms for figures in strategies.values())),
    )


def _with_one_slot(scenario: Scenario) -> Ledger:
    """DWDP's memory with one staging slot, the setting that needs least."""
    return ledger(scenario.replace(**{"strategy.slots": 1, "strategy.prefetch_distance": None}), "dwdp")


def _about_lasting(hardware: Hardware, asked: Physics | None, shortest_ms: float) -> dict[str, str]:
    """What a reader must know of steps that last: where they are predicted, and where they are not because nobody said
    which effects are wanted, of a profile that knows of them. `shortest_ms`: no strategy's step is shorter."""
    lasting = None if hardware.reached is None else hardware.reached.lasting
    if asked is not None and asked.lasting:
        return {
            "lasting": "at the power limit, to which full load brings this machine; where little is computed, or "
            "pulls are exposed, it may stay below and compute faster than this: DWDP may then look better beside the "
            "others than it is"
        }
    slower = 0 if lasting is None else round(100 * (lasting.longest - 1.0))
    if asked is not None or lasting is None or not slower:
        return {}
    after_ms = lasting.after_ms.value
    less = ", less than any of these steps takes," if shortest_ms > after_ms else ""
    return {
        "lasting": f"these are steps on cool GPUs; after {after_ms:.3g} ms of full load{less} this machine "
        f"takes up to {slower} % longer to compute: --physics lasting predicts steps that last"
    }


def _provenance(scenario: Scenario, hardware: Hardware, physics: Physics) -> dict[str, str]:
    """Where each group of numbers comes from."""
    if physics != physics_for(hardware):
        how = f"simulated, physics {physics}, profile {hardware.name} ({hardware.provenance})"
    elif hardware.reached is None:
        how = (
            f"simulated, the bound of the data sheet: profile {hardware.name} ({hardware.provenance}) does not say "
            "what the machine reaches, so efficiencies, latencies and interference are left out"
        )
    else:
        how = f"simulated with all effects, profile {hardware.name} ({hardware.provenance})"
    skew = scenario.workload.router_skew
    fitted = skew and skew == fitted_router_skew(scenario.model)
    notes = () if hardware.calibration is None else hardware.calibration.notes
    return {
        "strategies": how,
        "dwdp_over_dep": f"{how}; DEP exchanges tokens by {scenario.strategy.dep_form.replace('_', '-')}",
        "crossover_tokens": f"{how}; passes with this workload's imbalance and request length",
        "memory_gb_per_rank": "computed from the model's shape and the largest pass; no framework, no fragmentation",
        "best": f"{how}; a search over some settings with two steps each",
        "over_ranks": f"{how}; two steps each; DEP exchanges tokens by what is faster for so many ranks",
        "hardware": "; ".join(("each number of the profile carries its own source", *notes)),
    } | ({"router_skew": f"{skew:g}, fitted to the paper's Table 1 for a model of this shape"} if fitted else {})
