"""The lesson on rooflines: when a pull hides behind a layer's computation."""

from __future__ import annotations

from typing import Any

from dwdp_lab.program.pull_plan import pull_of
from dwdp_lab.scenario.model_config import read_model
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.crossover import crossover
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.paper_data import paper_data
from dwdp_lab.simulate.physics import REALISTIC
from dwdp_lab.simulate.roofline import crossover_tokens, hiding_tokens
from dwdp_lab.teach import rooflines_answers as answers
from dwdp_lab.teach.agrees import agrees, is_number
from dwdp_lab.teach.attempt import attempt
from dwdp_lab.teach.crossing import FEWEST_TOKENS
from dwdp_lab.teach.exercise import Exercise
from dwdp_lab.teach.hiding import HIDING_TOKENS
from dwdp_lab.teach.lesson import lesson_of
from dwdp_lab.teach.prediction import Prediction, Revealed
from dwdp_lab.teach.shown import Shown, table

# --- FLOPs of attention --------------------------------------------------------------------------------------------

SAME_TOKENS = ([16384], [8192] * 2, [4096] * 4, [1024] * 16)


def _show_core(answer: Any) -> Shown:
    per_pair = read_model("deepseek-r1").attention.core_flops_per_pair()
    rows = []
    for lengths in SAME_TOKENS:
        called = attempt(answer, (lengths, per_pair))
        cell = f"{float(called.value) / 1e12:.2f}" if is_number(called.value) else str(called)
        rows.append((f"{len(lengths)} of {lengths[0]:,} tokens", cell))
    return Shown(
        f"16,384 tokens of deepseek-r1, {per_pair:,} FLOPs per pair, by your count\n"
        + table(("requests", "TFLOP"), rows)
    )


CORE_FLOPS = Exercise(
    key="rooflines.core_flops",
    number="3.1",
    title="the quadratic part",
    difficulty=1,
    minutes=5,
    name="core_flops",
    spec="""\
In prefill every token of a request attends to the tokens before it and to itself, and to no other request.
`flops_per_pair` is what one (query, key) pair costs, all heads together. Write `core_flops(lengths, flops_per_pair)`:
the FLOPs of one layer's attention for a pass of whole requests of these lengths.""",
    stub='''\
def core_flops(lengths: list[int], flops_per_pair: int) -> int:
    """FLOPs of one layer's attention, without its projections."""''',
    hints=(
        "Count pairs. A request of 3 tokens: the first sees 1 token (itself), the second 2, the third 3.",
        "1 + 2 + ... + n is n (n + 1) / 2.",
        "Sum that over the requests, each by itself, and multiply by flops_per_pair.",
    ),
    reference=answers.core_flops,
    view=_show_core,
    example=lambda: ([1], 1),
    properties=(
        agrees(
            "a token sees itself", "core_flops", answers.core_flops, [([1], 1)], why="One token makes one pair: itself."
        ),
        agrees(
            "and what came before it",
            "core_flops",
            answers.core_flops,
            [([2], 1), ([3], 1), ([10], 1)],
            why="The first token sees 1 token, the next 2, and so on; nobody sees what comes later.",
        ),
        agrees(
            "requests do not see each other",
            "core_flops",
            answers.core_flops,
            [([1, 1], 1), ([2, 1], 1), ([2, 2, 2], 1)],
            why="Each request counts by itself.",
        ),
        agrees("every pair costs", "core_flops", answers.core_flops, [([1], 2), ([2, 3], 81920), ([], 2)]),
    ),
)

# --- predictions ---------------------------------------------------------------------------------------------------


def paper_roofline() -> Scenario:
    """DeepSeek-R1 on four GB200 with the constants that reproduce the paper's curve (see simulate/roofline.py)."""
    return Scenario.create(
        model={"preset": "deepseek-r1", "expert_dtype": "nvfp4", "dense_dtype": "bf16"},
        group={"ranks": 4},
        strategy={"dep_form": "all_to_all", "dep_rows": "per_expert"},
        workload={"kind": "explicit", "lengths": [[16384]] * 4},
        hardware="gb200",
    )


def fitted() -> Scenario:
    """The same machine as its profile's `reached` was fitted: projections in NVFP4 too; slices, so that nobody meets.

    Balanced passes of requests of 16,384 tokens; DEP sends a token once per rank.
    """
    return Scenario.create(
        model=paper_data("setup")["model"],
        group={"ranks": 4},
        strategy={"dep_form": "all_to_all", "peer_order": "interleaved", "slice_bytes": 1 << 20},
        workload={"kind": "cv", "cv": 0.0, "tokens_per_rank": 16384, "isl_tokens": 16384},
        hardware="gb200",
    )


def _crossing() -> Revealed:
    scenario = paper_roofline()
    even, hidden = crossover_tokens(scenario) or 0, hiding_tokens(scenario) or 0
    return Revealed(
        even,
        f"T_DEP / T_DWDP is 1 at {even:,} tokens, where the pull still sticks out; it is hidden from {hidden:,} tokens "
        "on. 16,384 is the first of the four points with a ratio above 1.",
    )


def _link() -> Revealed:
    table1 = paper_data("table1")
    copies = next(row["dwdp_ms"] for row in table1["rows"] if row["row"] == "p2p_copy")
    scenario = paper_roofline()
    layer, link = pull_of(scenario, 0).nbytes, load_hardware(scenario.hardware).link_gbps.value
    pulled = scenario.model.moe_layers * layer
    gbps = pulled / copies / 1e6
    return Revealed(
        gbps,
        f"{pulled / 1e9:,.0f} GB in {copies:g} ms are {gbps:,.0f} GB/s, {100 * gbps / link:.0f} % of the link's "
        f"{link:g}. In {copies:g} µs they would be {gbps:,.0f} TB/s, and one layer alone "
        f"{layer / copies / 1e6:.0f} TB/s.",
    )


def _with_everything() -> Revealed:
    scenario = fitted()
    alone, all_of_it = crossover_tokens(scenario), crossover(scenario, load_hardware("gb200"), REALISTIC)
    return Revealed(
        all_of_it or 0,
        f"The roofline alone says {alone or 0:,} tokens here (projections in NVFP4, a token sent once per rank).",
    )


LESSON = lesson_of(
    "rooflines",
    "03_rooflines.ipynb",
    "Rooflines",
    [CORE_FLOPS, FEWEST_TOKENS, HIDING_TOKENS],
    [
        Prediction(
            "rooflines.crossing",
            "The paper's curve has four points, at 1,024, 8,192, 16,384 and 32,768 tokens, and its text puts the "
            "crossover at about 16K. From how many tokens on is T_DEP at least T_DWDP in the roofline that you have "
            "just rebuilt?",
            "tokens",
            1000.0,
            _crossing,
        ),
        Prediction(
            "rooflines.link",
            "Table 1 of the paper says 429.00 for the peer copies of one iteration of DWDP4, and prints µs as the "
            "unit. An iteration pulls the missing experts of 58 layers. If the unit is really **ms**, what GB/s does "
            "the link reach?",
            "GB/s",
            60.0,
            _link,
        ),
        Prediction(
            "rooflines.with_everything",
            "Now all effects at once: efficiencies below the peak, activations, memory traffic, and clocks that fall "
            "while copies run. The ranks are still balanced. From how many tokens per rank is DWDP as fast as DEP?",
            "tokens",
            2000.0,
            _with_everything,
        ),
    ],
)
