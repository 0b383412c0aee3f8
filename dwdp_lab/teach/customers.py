"""Three made-up customers: what each has, and the exercise that decides for them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from dwdp_lab.program.memory import ledger
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.predict import physics_for
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.teach.attempt import shown
from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.shown import Shown, Text, table
from dwdp_lab.timeline.metrics import metrics

CHOICES: tuple[StrategyName, ...] = ("replicated", "dep", "dwdp")
AS_GOOD = 0.97
"""What is within 3 % of the best is as good: the simulator is not more exact than that."""

CUSTOMERS: dict[str, dict[str, Any]] = {
    "law firm": {
        "model": {"preset": "deepseek-r1", "expert_dtype": "nvfp4"},
        "group": {"ranks": 4},
        "workload": {"kind": "isl", "isl_tokens": 16384, "isl_ratio": 0.5, "mnt_tokens": 32768, "steps": 3},
        "hardware": "gb200",
    },
    "help desk": {
        "model": "qwen3-30b-a3b",
        "group": {"ranks": 4},
        "workload": {"kind": "isl", "isl_tokens": 4096, "isl_ratio": 0.5, "mnt_tokens": 16384, "steps": 3},
        "hardware": "h100",
    },
    "chat": {
        "model": "deepseek-r1",
        "group": {"ranks": 8},
        "workload": {"kind": "isl", "isl_tokens": 1024, "isl_ratio": 0.5, "mnt_tokens": 8192, "steps": 3},
        "hardware": "h200",
    },
}


class Judged(NamedTuple):
    """One strategy for one customer: `memory_gb` per rank, and the shares of the step in %."""

    memory_gb: float
    fits: bool
    tokens_per_s: float
    wait_pct: float
    exposed_pct: float


def customer(name: str) -> Scenario:
    """One of the three."""
    return Scenario.create(CUSTOMERS[name])


@lru_cache
def judged(name: str, strategy: StrategyName) -> Judged:
    """What the simulator says, with all effects that the profile knows."""
    scenario = customer(name)
    hardware = load_hardware(scenario.hardware)
    found = metrics(run_sim(scenario.with_strategy(strategy), physics=physics_for(hardware)))
    memory_gb = ledger(scenario, strategy).total / 1e9
    return Judged(
        memory_gb,
        memory_gb <= hardware.memory_gb.value,
        found.tokens_per_s,
        found.wait_pct,
        found.share(found.exposed_copy_ms),
    )


def facts() -> Text:
    """What is known of the customers before anything is simulated."""
    rows = []
    for name in CUSTOMERS:
        scenario = customer(name)
        model, hardware, asked = scenario.model, load_hardware(scenario.hardware), CUSTOMERS[name]["workload"]
        rows.append(
            (
                name,
                f"{model.name}, {model.expert_dtype}",
                f"{model.experts} / {model.top_k}",
                f"{model.moe_layers * model.experts * model.expert_bytes / 1e9:.0f} GB",
                f"{scenario.ranks} x {hardware.name}",
                f"{hardware.memory_gb.value:.0f} GB",
                f"{hardware.link_gbps.value:.0f} GB/s",
                f"{round(asked['isl_ratio'] * asked['isl_tokens']):,} to {asked['isl_tokens']:,}",
                f"{asked['mnt_tokens']:,}",
            )
        )
    header = ("", "model, experts in", "E / k", "all experts", "GPUs", "memory", "link", "prompts", "MNT")
    return Text(table(header, rows))


def comparison() -> Text:
    """Every strategy for every customer; what does not fit in brackets."""
    rows = []
    for name in CUSTOMERS:
        for strategy in CHOICES:
            one = judged(name, strategy)
            speed = f"{one.tokens_per_s:,.0f}"
            rows.append(
                (
                    f"{name}: {strategy}",
                    speed if one.fits else f"({speed})",
                    f"{one.memory_gb:.0f} GB",
                    "yes" if one.fits else "no",
                    f"{one.wait_pct:.1f}",
                    f"{one.exposed_pct:.1f}",
                )
            )
    header = ("", "tokens/s per GPU", "memory per rank", "fits", "waiting %", "exposed copy %")
    return Text(table(header, rows))


def _form(answer: Any) -> str | None:
    """What is wrong with the form of an answer."""
    wanted = "{" + ", ".join(f'"{name}": "..."' for name in CUSTOMERS) + "}"
    if not isinstance(answer, dict) or set(answer) != set(CUSTOMERS):
        return f"{shown(answer)} is not of the form {wanted}."
    wrong = next((name for name in CUSTOMERS if answer[name] not in CHOICES), None)
    if wrong is not None:
        return f"{wrong}: {shown(answer[wrong])} is not one of {', '.join(CHOICES)}."
    return None


def _fits(answer: Any) -> str | None:
    for name in CUSTOMERS:
        one, gpu = judged(name, answer[name]), load_hardware(customer(name).hardware)
        if not one.fits:
            return (
                f"{name}: {answer[name]} needs {one.memory_gb:.0f} GB on each rank, and a {gpu.name} has "
                f"{gpu.memory_gb.value:.0f} GB."
            )
    return None


def _nothing_faster(answer: Any) -> str | None:
    for name in CUSTOMERS:
        mine = judged(name, answer[name])
        for strategy in CHOICES:
            other = judged(name, strategy)
            if other.fits and mine.tokens_per_s < AS_GOOD * other.tokens_per_s:
                return (
                    f"{name}: with {answer[name]} a GPU computes {mine.tokens_per_s:,.0f} tokens/s, waits for "
                    f"{mine.wait_pct:.1f} % of the step and has {mine.exposed_pct:.1f} % of exposed copy. Something "
                    f"that fits as well computes {other.tokens_per_s:,.0f}."
                )
    return None


def _show(answer: Any) -> Shown:
    if callable(answer):
        return Shown(f"{shown(answer)} is not of the form of a dictionary.")
    if wrong := _form(answer):
        return Shown(wrong)
    rows = []
    for name in CUSTOMERS:
        one = judged(name, answer[name])
        fits = f"{one.memory_gb:.0f} GB: {'fits' if one.fits else 'does not fit'}"
        shares = (f"{one.wait_pct:.1f} %", f"{one.exposed_pct:.1f} %")
        rows.append((f"{name}: {answer[name]}", fits, f"{one.tokens_per_s:,.0f}", *shares))
    header = ("your decision", "memory per rank", "tokens/s per GPU", "waiting", "exposed copy")
    return Shown("simulated\n" + table(header, rows))


DECISIONS = Exercise(
    key="judging.decisions",
    number="9.3",
    title="three customers",
    difficulty=2,
    minutes=10,
    name="decisions",
    spec="""\
Each of the three customers in the table above wants as many prompt tokens per second and GPU as can be had. Decide for
each between `"replicated"` (every GPU holds all experts), `"dep"` and `"dwdp"`. Decide by arithmetic, before you
simulate anything: `decisions = {"law firm": "...", "help desk": "...", "chat": "..."}`. What you choose has to fit into
memory, and nothing that fits may be more than 3 % faster.""",
    stub='decisions = ...  # {"law firm": "...", "help desk": "...", "chat": "..."}',
    hints=(
        "First memory: who can hold all experts on each GPU, with room for attention, embeddings and the keys and "
        "values of a pass? Nothing moves there, and nobody waits.",
        "For the other two: can a pass hide the pulls? Compare its tokens with the threshold of the experts alone, "
        "(E - L) b rate / (2 k link), and think of attention: long prompts make it large, short ones do not.",
        "Of two customers with DeepSeek-R1 one has passes of some 25,000 tokens in long prompts, and a crossover near "
        "10,000 (notebook 03). The other has 8,000 tokens in short prompts, half the link, and pulls experts twice as "
        "large.",
    ),
    reference='decisions = {"law firm": "dwdp", "help desk": "replicated", "chat": "dep"}',
    view=_show,
    properties=(
        Property("a strategy for each customer", _form),
        Property("what is chosen fits into memory", _fits),
        Property("nothing that fits is more than 3 % faster", _nothing_faster),
    ),
)
