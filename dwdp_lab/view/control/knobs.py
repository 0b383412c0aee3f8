"""The table of knobs: what each is called, how it is turned and what it does; and the scenario they give."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.view.control.choices import shape, value
from dwdp_lab.view.control.settings import COMMON_FIELDS, WORKLOAD_FIELDS, Settings

KnobKind = Literal["slider", "list", "switch", "text"]


class Knob(NamedTuple):
    """One knob. `field` is the scenario's, `help` says what turning it does."""

    label: str
    kind: KnobKind
    help: str


SECTIONS: dict[str, dict[str, Knob]] = {
    "Work": {
        "workload": Knob("lengths", "list", "Where the ranks' tokens come from"),
        "tokens": Knob("tokens per rank", "slider", "Mean new tokens per rank and step"),
        "cv": Knob("imbalance (CV)", "slider", "Standard deviation over mean of the tokens per rank"),
        "file": Knob("trace", "text", "A shipped list, or the path of an Azure CSV, Mooncake JSONL or JSON file"),
        "divide": Knob("divide lengths", "slider", "All lengths of the trace are divided by this"),
        "ratio": Knob("ISL ratio", "slider", "Lengths are uniform between this share of ISL and ISL"),
        "std": Knob("ISL spread", "slider", "Standard deviation of a normal distribution around ISL; 0: use the ratio"),
        "isl": Knob("prompt (ISL)", "slider", "Tokens of one request"),
        "mnt": Knob("budget (MNT)", "slider", "Most new tokens in one pass of a rank"),
        "steps": Knob("steps", "slider", "Passes, each with lengths of its own"),
        "assign": Knob("requests go", "list", "How requests are dealt to ranks"),
        "cache": Knob("prefix cache", "switch", "Blocks a rank has seen need no computing (traces with hashes)"),
        "prefix": Knob("prefix hits", "slider", "Share of each prompt that is found in the prefix cache"),
        "skew": Knob("router skew", "slider", "Zipf exponent of the experts' popularity; 0 is uniform"),
        "seed": Knob("seed", "slider", "Another draw of lengths, weights and popular experts"),
    },
    "Strategy": {
        "strategy": Knob("strategy", "list", "Who computes which experts, and what moves between ranks"),
        "overlap": Knob("overlap", "switch", "Fetch weights while computing; off: fetch, then compute"),
        "slots": Knob("staging slots", "slider", "Buffers that fetched layers cycle through"),
        "distance": Knob("fetch ahead", "list", "How many MoE layers ahead a fetch may start"),
        "cross_step": Knob("across steps", "switch", "The first fetches of a step may start in the step before it"),
        "order": Knob("peer order", "list", "In which order a rank visits its peers"),
        "slice": Knob("slice size", "list", "Size of one copy; small ones share a busy source fairly"),
        "view": Knob("weight view", "list", "How the experts' kernel sees local and pulled weights"),
        "pulled": Knob("pulled", "list", "All remote experts, or only those that the layer's tokens were routed to"),
        "dep_form": Knob("exchange", "list", "How DEP exchanges tokens; auto takes the one with fewer bytes"),
        "dep_rows": Knob("rows sent", "list", "A token once to every rank, or once for each of its experts"),
        "meet": Knob("ranks meet", "list", "Collectives by copy engine through peers' memory, or over NCCL"),
        "calls": Knob("copy calls", "list", "One call for each copy of a pull, or one for all; auto tries both"),
        "micro": Knob("micro-batches", "slider", "Parts of a rank's batch that go through a pipeline one by one"),
    },
    "Model and group": {
        "model": Knob("model", "list", "The decoder's shape; no weights are downloaded"),
        "layers": Knob("layers", "slider", "Fewer layers make each one visible"),
        "ranks": Knob("ranks (N)", "slider", "Ranks in the group, one GPU each"),
        "local": Knob("local experts (L)", "slider", "Experts of a layer that each rank keeps for good"),
    },
    "Link and profile": {
        "hardware": Knob("profile", "list", "What the simulator knows of the GPU"),
        "physics": Knob("physics", "list", "What the simulator counts beside the data sheet's peaks"),
        "link": Knob("link", "slider", "Speed of the link, one way; paces the copies of CPU ranks"),
    },
}
KNOBS: dict[str, Knob] = {name: knob for section in SECTIONS.values() for name, knob in section.items()}


def values(settings: Settings) -> dict[str, Any]:
    """What every knob comes to."""
    return {name: value(settings, name) for name in KNOBS}


def scenario_of(settings: Settings) -> Scenario:
    """The scenario that the knobs give. Raises ScenarioError, whose knob `settings.knob_of` tells."""
    now = values(settings)
    base = settings.base.to_dict() if settings.base is not None else {}
    workload = base.get("workload", {}) if base.get("workload", {}).get("kind") == now["workload"] else {}
    workload = {**workload, "kind": now["workload"], "router_skew": now["skew"], "seed": now["seed"]}
    workload |= {last: now[name] for name, last in WORKLOAD_FIELDS[now["workload"]].items()}
    strategy = {
        path.removeprefix("strategy."): now[name]
        for name, path in COMMON_FIELDS.items()
        if path.startswith("strategy.")
    }
    return Scenario.create(
        model=shape(settings).model_copy(update={"layers": now["layers"]}),
        group={"ranks": now["ranks"], "local_experts": now["local"]},
        strategy=strategy,
        workload=workload,
        hardware=now["hardware"],
        link_gbps=now["link"],
    )
