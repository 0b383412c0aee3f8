"""Hiding a pull behind the experts alone: the machines on which an answer is tried, and the exercise."""

from __future__ import annotations

from itertools import product
from typing import Any

from dwdp_lab.scenario.precision import Precision
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.teach import rooflines_answers as answers
from dwdp_lab.teach.agrees import agrees, is_number
from dwdp_lab.teach.attempt import attempt
from dwdp_lab.teach.exercise import Exercise
from dwdp_lab.teach.shown import Shown, table

MACHINES: tuple[tuple[str, int, int, int, float, Precision, str], ...] = (
    # what, E, L, k, bytes per parameter, TFLOP/s, GB/s
    ("Qwen3-30B-A3B, bf16, 4 x H100", 128, 32, 8, 2.0, "bf16", "h100"),
    ("the same, 2 x H100", 128, 64, 8, 2.0, "bf16", "h100"),
    ("Mixtral 8x7B, bf16, 4 x H100", 8, 2, 2, 2.0, "bf16", "h100"),
    ("DeepSeek-R1, FP8, 8 x H200", 256, 32, 8, 1.0, "fp8", "h200"),
    ("DeepSeek-R1, NVFP4, 4 x GB200", 256, 64, 8, 0.5625, "nvfp4", "gb200"),
)
"""What `show` tries; rates are the peaks of the profiles."""


def _show_hiding(answer: Any) -> Shown:
    rows = []
    for name, experts, local, top_k, size, dtype, hardware in MACHINES:
        profile = load_hardware(hardware)
        rates = (profile.tflops[dtype].value, profile.link_gbps.value)
        called = attempt(answer, (experts, local, top_k, size, *rates))
        cell = f"{float(called.value):,.0f}" if is_number(called.value) else str(called)
        rows.append((name, f"{experts - local}", f"{top_k}", f"{rates[0]:,.0f}", f"{rates[1]:,.0f}", cell))
    return Shown(table(("", "E - L", "k", "TFLOP/s", "GB/s", "your tokens"), rows))


def _cases(**ranges: tuple[float, ...]) -> list[tuple[Any, ...]]:
    """The smallest case (2 experts, 1 kept, 1 visited, all rates 1) with some arguments changed."""
    smallest: dict[str, tuple[float, ...]] = {
        "experts": (2,),
        "local": (1,),
        "top_k": (1,),
        "bytes_per_param": (1.0,),
        "tflops": (1.0,),
        "link_gbps": (1.0,),
    }
    return list(product(*(smallest | ranges).values()))


HIDING_TOKENS = Exercise(
    key="rooflines.hiding_tokens",
    number="3.3",
    title="how many tokens hide a pull?",
    difficulty=2,
    minutes=10,
    name="hiding_tokens",
    spec="""\
Leave attention out. A rank pulls the E - L experts of a layer that it lacks, over a link of `link_gbps` (1e9 bytes/s),
while its GPU computes the experts of its tokens at `tflops` (1e12 FLOP/s); each token visits `top_k`. Write
`hiding_tokens(experts, local, top_k, bytes_per_param, tflops, link_gbps)`: the tokens per rank for which both take
equally long. The size of an expert is not given. Do you need it?""",
    stub='''\
def hiding_tokens(
    experts: int, local: int, top_k: int, bytes_per_param: float, tflops: float, link_gbps: float
) -> float:
    """Tokens per rank with which computing the experts takes as long as pulling those that are missing."""''',
    hints=(
        "Say an expert has w parameters, and write down both times: bytes over bytes per second, FLOPs over FLOP/s.",
        "Pull: (E - L) w bytes_per_param / link. Compute: a row through w parameters costs 2 w FLOPs, and every token "
        "makes top_k rows.",
        "Set them equal and solve for the tokens: w is on both sides. Mind the units: 1e12 above, 1e9 below.",
    ),
    reference=answers.hiding_tokens,
    view=_show_hiding,
    example=lambda: (2, 1, 1, 1.0, 1.0, 1.0),
    properties=(
        agrees(
            "a rank that keeps everything pulls nothing",
            "hiding_tokens",
            answers.hiding_tokens,
            _cases(local=(2,)),
            why="Only the {0} - {1} experts that are missing are pulled.",
        ),
        agrees(
            "one missing expert, one visited",
            "hiding_tokens",
            answers.hiding_tokens,
            _cases(),
            why="Per parameter: 1 byte at 1e9 bytes/s takes 1 ns; a token's 2 FLOPs at 1e12 FLOP/s take 0.002 ns.",
        ),
        agrees(
            "more bytes to pull need more tokens",
            "hiding_tokens",
            answers.hiding_tokens,
            _cases(experts=(3, 8), local=(1, 2), bytes_per_param=(1.0, 2.0)),
            why="{0} - {1} experts at {3} bytes per parameter are pulled.",
        ),
        agrees(
            "each token computes top_k experts",
            "hiding_tokens",
            answers.hiding_tokens,
            _cases(experts=(8,), top_k=(2, 4)),
            why="With {2} experts per token a token gives {2} times the work.",
        ),
        agrees(
            "a faster GPU needs more tokens, a faster link fewer",
            "hiding_tokens",
            answers.hiding_tokens,
            _cases(tflops=(2.0, 989.0), link_gbps=(1.0, 450.0)),
        ),
    ),
)
