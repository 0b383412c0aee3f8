"""The lesson on barriers: imbalance between ranks, and the waiting it causes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.teach import barriers_answers as answers
from dwdp_lab.teach.agrees import agrees, is_number
from dwdp_lab.teach.attempt import attempt, shown
from dwdp_lab.teach.barrier_picture import barrier_picture
from dwdp_lab.teach.dealing import DEAL
from dwdp_lab.teach.exercise import Exercise, Property, Target
from dwdp_lab.teach.lesson import lesson_of
from dwdp_lab.teach.prediction import Prediction, Revealed
from dwdp_lab.teach.shown import Shown, table
from dwdp_lab.teach.slowest_chart import slowest_chart
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.view.picture import Picture

# --- the time of a step --------------------------------------------------------------------------------------------

PICTURED = [[3, 2, 4], [2, 5, 1], [3, 3, 2]]


def _works(layers: int, ranks: int) -> Iterator[tuple[list[list[int]]]]:
    """All works of 1 and 2 ms, as arguments: the smallest counter-example is among them."""
    for values in product((1, 2), repeat=layers * ranks):
        yield ([list(values[layer * ranks : (layer + 1) * ranks]) for layer in range(layers)],)


def _show_step_ms(answer: Any) -> Shown:
    cases = [[[2]], [[1, 2]], [[1, 2], [2, 1]], PICTURED]
    rows = [(shown(case), attempt(answer, (case,))) for case in cases]
    said = attempt(answer, (PICTURED,)).value
    drawn = float(said) if is_number(said) and 0 <= float(said) < 1000 else None
    return Shown(table(("work_ms", "your step_ms"), rows), barrier_picture(PICTURED, drawn))


STEP_MS = Exercise(
    key="barriers.step_ms",
    number="1.1",
    title="how long is a step?",
    difficulty=1,
    minutes=5,
    name="step_ms",
    spec="""\
`work_ms[layer][rank]` says how long each rank computes in each layer, in milliseconds. At the end of every layer the
ranks meet: none goes on before the last has come. Write `step_ms(work_ms)`, the time until all ranks are through all
layers. The meeting itself takes no time.""",
    stub='''\
def step_ms(work_ms: list[list[float]]) -> float:
    """Milliseconds until all ranks are through all layers."""''',
    hints=(
        "Take two ranks and one layer, [[1, 2]]. When does rank 0 go on?",
        "A layer takes as long as its slowest rank. Which rank that is may change from layer to layer.",
        "The step is the sum over the layers of max(layer).",
    ),
    reference=answers.step_ms,
    view=_show_step_ms,
    example=lambda: ([[2]],),
    properties=(
        agrees("a rank alone waits for nobody", "step_ms", answers.step_ms, [*_works(1, 1), *_works(2, 1)]),
        agrees(
            "a layer ends with its last rank",
            "step_ms",
            answers.step_ms,
            [*_works(1, 2), *_works(1, 3)],
            why="All ranks go on when the slowest has come.",
        ),
        agrees(
            "every layer has a slowest rank of its own",
            "step_ms",
            answers.step_ms,
            [*_works(2, 2), *_works(3, 2), (PICTURED,), ([[0.5, 0.25], [0.125, 1.5]],)],
            why="The ranks meet after each layer, so the slowest of each layer counts, whoever that is.",
        ),
    ),
)

# --- the slowest of several ----------------------------------------------------------------------------------------

CVS, RANKS = (0.1, 0.2, 0.4), (2, 3, 4, 8, 16, 72)


def _show_slowest(answer: Any) -> Shown:
    called = {cv: [attempt(answer, (cv, ranks)) for ranks in RANKS] for cv in CVS}
    rows = [
        (f"CV {cv:.1f}", *(f"{float(each.value):.3f}" if is_number(each.value) else str(each) for each in row))
        for cv, row in called.items()
    ]
    words = "your slowest_over_mean\n" + table(("", *(f"N = {ranks}" for ranks in RANKS)), rows)
    if not all(is_number(each.value) and abs(float(each.value)) < 1000 for row in called.values() for each in row):
        return Shown(words)
    said = {cv: [float(each.value) for each in row] for cv, row in called.items()}
    return Shown(words, Picture(slowest_chart(said, RANKS).svg()))


def _grows_with_ranks(answer: Any) -> str | None:
    for few, many in ((1, 2), (2, 3), (3, 8)):
        less, more = attempt(answer, (0.2, few)), attempt(answer, (0.2, many))
        numbers = is_number(less.value) and is_number(more.value)
        if not numbers or not float(more.value) > float(less.value):
            return f"CV 0.2: N = {few} gives {less}, N = {many} gives {more}; the more ranks, the later the last."
    return None


def _worst_error_pct(answer: Any) -> float:
    cases = [(cv, ranks) for cv in CVS for ranks in RANKS]
    return max(100 * abs(float(answer(*case)) / answers.slowest_over_mean(*case) - 1) for case in cases)


SLOWEST = Exercise(
    key="barriers.slowest_over_mean",
    number="1.2",
    title="how late is the last of N?",
    difficulty=2,
    minutes=15,
    name="slowest_over_mean",
    spec="""\
The N ranks of a group work for a time that is different in every batch: normally distributed and independent, with
mean 1 and standard deviation `cv`. Write `slowest_over_mean(cv, ranks)`, the expected time of the slowest rank,
E[max] / mean. Derive it or measure it: an error of 1 % passes. The target is 0.1 %.""",
    stub='''\
def slowest_over_mean(cv: float, ranks: int) -> float:
    """E[max] / mean of so many ranks' times."""''',
    hints=(
        "E[max] / mean = 1 + cv * e_N, and e_N is what the largest of N standard normal numbers (mean 0, deviation 1) "
        "is on average. It depends on N alone, and is 0 for N = 1.",
        "To measure e_N: draw N numbers with random.gauss(0, 1), 20,000 times, and take the mean of their maximum. "
        "That is enough for 1 %. To derive it: the largest is at most x when all N are, so its distribution function "
        "is Phi(x)^N.",
        "e_N is the integral of x N phi(x) Phi(x)^(N-1) dx. statistics.NormalDist has pdf and cdf; a sum over x from "
        "-8 to 8 in steps of 0.01 is accurate enough.",
    ),
    reference=answers.slowest_over_mean,
    view=_show_slowest,
    example=lambda: (0.0, 1),
    properties=(
        agrees("equal ranks: nobody is late", "slowest_over_mean", answers.slowest_over_mean, [(0.0, 1), (0.0, 4)]),
        agrees(
            "a rank alone is the mean",
            "slowest_over_mean",
            answers.slowest_over_mean,
            [(0.2, 1)],
            within=0.01,
            why="The maximum of one time is that time; on average it is the mean.",
        ),
        Property("more ranks wait longer", _grows_with_ranks),
        agrees(
            "the expected maximum, within 1 %",
            "slowest_over_mean",
            answers.slowest_over_mean,
            [*product(CVS, RANKS), (0.3, 5), (0.15, 12)],  # the last two are not among those shown
            within=0.01,
            why="If you draw random numbers: 20,000 times for each pair are enough. If you have a formula: "
            "sqrt(2 ln N), for one, holds for very many ranks only.",
        ),
    ),
    targets=(Target("largest error", _worst_error_pct, lambda: 0.1, "%"),),
)

# --- what CV a range of lengths has --------------------------------------------------------------------------------


def _show_cv(answer: Any) -> Shown:
    def cell(ratio: float, requests: int) -> str:
        called = attempt(answer, (ratio, requests))
        return f"{100 * float(called.value):.1f} %" if is_number(called.value) else str(called)

    rows = [(f"ratio {ratio}", *(cell(ratio, n) for n in (1, 2, 4, 8))) for ratio in (0.2, 0.5, 0.8, 1.0)]
    return Shown("your tokens_cv\n" + table(("", "1 request", "2", "4", "8"), rows))


TOKENS_CV = Exercise(
    key="barriers.tokens_cv",
    number="1.3",
    title="what is a ratio of 0.8 in CV?",
    difficulty=1,
    minutes=10,
    name="tokens_cv",
    spec="""\
The paper says how unequal lengths are by an *ISL ratio* r: they lie between r × ISL and ISL, the *input sequence
length* (section 5.1). Take them as uniform there and independent. A rank has `requests` of them. Write
`tokens_cv(ratio, requests)`: the CV of its tokens, standard deviation over mean, as a fraction (0.2 for 20 %).""",
    stub='''\
def tokens_cv(ratio: float, requests: int) -> float:
    """Standard deviation over mean of a rank's tokens."""''',
    hints=(
        "ISL cancels: take it as 1. What are mean and standard deviation of a number that is uniform in [r, 1]?",
        "The deviation of a uniform distribution of width w is w / sqrt(12). The mean is in the middle, not at 1.",
        "Of n independent requests the sum has n times the mean and sqrt(n) times the deviation.",
    ),
    reference=answers.tokens_cv,
    view=_show_cv,
    example=lambda: (1.0, 1),
    properties=(
        agrees("equal lengths have no deviation", "tokens_cv", answers.tokens_cv, [(1.0, 1), (1.0, 4)]),
        agrees(
            "one request: deviation over mean",
            "tokens_cv",
            answers.tokens_cv,
            [(0.5, 1), (0.8, 1), (0.2, 1)],
            within=1e-3,
            why="Uniform in [{0}, 1]: the width is 1 - {0} and the mean (1 + {0}) / 2.",
        ),
        agrees(
            "several requests even out",
            "tokens_cv",
            answers.tokens_cv,
            product((0.5, 0.8), (2, 4, 16)),
            within=1e-3,
            why="The deviation of a sum of {1} grows with the square root of {1}, its mean with {1}.",
        ),
    ),
)

# --- predictions ---------------------------------------------------------------------------------------------------


def paper_like(**workload: object) -> Scenario:
    """DeepSeek-R1 with NVFP4 experts on four GB200 under DEP, which exchanges tokens by all-to-all."""
    return Scenario.create(
        model={"preset": "deepseek-r1", "expert_dtype": "nvfp4", "dense_dtype": "bf16"},
        group={"ranks": 4},
        strategy={"name": "dep", "dep_form": "all_to_all"},
        workload=workload,
        hardware="gb200",
    )


def _by_ratio() -> Revealed:
    scenario = paper_like(kind="isl", isl_tokens=8192, isl_ratio=0.8, mnt_tokens=32768, steps=8)
    waiting = metrics(run_sim(scenario)).wait_pct
    steps = scenario.batches.steps
    cv = sum(scenario.batches.cv(step) for step in range(steps)) / steps
    expected = 100 * answers.tokens_cv(0.8, 4)
    return Revealed(
        waiting,
        f"The four ranks' tokens have a CV of {100 * cv:.1f} % (mean of {steps} steps): several requests even out. "
        f"It is less than the {expected:.1f} % that four requests per rank have, because the four ranks of a step lie "
        "nearer to their own mean than to the mean of all requests.",
    )


def _more_ranks() -> Revealed:
    shares = {n: 100 * (1 - 1 / answers.slowest_over_mean(0.2, n)) for n in (4, 16, 72)}
    listed = ", ".join(f"{share:.0f} % with {n} ranks" for n, share in shares.items())
    return Revealed(shares[72], f"Waiting at a CV of 20 %: {listed}. It grows, but ever more slowly.")


LESSON = lesson_of(
    "barriers",
    "01_why_barriers_hurt.ipynb",
    "Why barriers hurt",
    [STEP_MS, SLOWEST, TOKENS_CV, DEAL],
    [
        Prediction(
            "barriers.more_ranks",
            "Four ranks at a CV of 20 % wait for a sixth of the step. What per cent do **72** ranks wait (an "
            "NVL72 rack)?",
            "%",
            5.0,
            _more_ranks,
        ),
        Prediction(
            "barriers.by_ratio",
            "The same machine, but lengths as the paper's experiment states them: ISL 8192 with ratio 0.8, as many "
            "whole requests per rank as fit into 32,768 tokens. What per cent of the step do DEP's ranks wait now?",
            "%",
            1.0,
            _by_ratio,
        ),
    ],
)
