"""The lesson on the MoE layer: routing, experts, FLOPs and bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.model_config import read_model
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.router import visit_probability
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.teach import moe_layer_answers as answers
from dwdp_lab.teach.agrees import agrees, is_number
from dwdp_lab.teach.attempt import attempt, shown
from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.lesson import lesson_of
from dwdp_lab.teach.moe_cases import ExpertsCase, as_tensor, experts_case, right_experts, same
from dwdp_lab.teach.prediction import Prediction, Revealed
from dwdp_lab.teach.routing import ROUTE
from dwdp_lab.teach.shown import Shown, table

# --- the experts ---------------------------------------------------------------------------------------------------


def _experts_agree(name: str, why: str, *cases: Callable[[], ExpertsCase]) -> Property:
    def violation(answer: Any) -> str | None:
        for make in cases:
            case = make()
            called, wanted = attempt(answer, case.arguments), right_experts(case)
            if called.error:
                return f"{case.words}: {called.error}"
            given = as_tensor(called.value)
            if given is None or given.shape != wanted.shape:
                size = " x ".join(map(str, wanted.shape))
                return f"{case.words}: a tensor of shape {size} is wanted, not {shown(called.value)}."
            error = given - wanted
            if float((error - case.arguments[0]).abs().amax()) < 1e-4:
                return f"{case.words}: x itself is in the output. The residual is not part of this function."
            missed = error.abs().amax(1)
            token = int(missed.argmax())
            if not float(missed[token]) < 1e-4:
                return f"{case.words}: the output of token {token} is off by up to {float(missed[token]):.3g}. {why}"
        return None

    return Property(name, violation)


def _show_experts(answer: Any) -> Shown:
    case = experts_case(tokens=3, top_k=2)
    called, wanted = attempt(answer, case.arguments), right_experts(case)
    given = as_tensor(called.value)
    if given is None or given.shape != wanted.shape:
        return Shown(f"{case.words}: {called}")
    rows = [
        (f"token {token}", *(f"{value:.3f}" for value in given[token, :4].tolist()), f"{missed:.4f}")
        for token, missed in enumerate((given - wanted).abs().amax(1).tolist())
    ]
    return Shown(case.words + "\n" + table(("", "y[0]", "y[1]", "y[2]", "y[3]", "largest error"), rows))


EXPERTS = Exercise(
    key="moe_layer.experts",
    number="2.2",
    title="compute the experts",
    difficulty=2,
    minutes=15,
    name="experts",
    spec="""\
Write `experts(x, ids, weights, w13, w2)` in torch, as slowly as you like. `x` is [T, H]; token t visits the experts
`ids[t]` and its output is the sum of their outputs, each times its entry of `weights[t]`. `w13[e]` is [2I, H], the gate
projection above the up projection; `w2[e]` is [H, I]. An expert is *w2 (silu(gate) · up)*, with
silu(z) = z · sigmoid(z). No residual, no norm.""",
    stub='''\
def experts(x: Tensor, ids: Tensor, weights: Tensor, w13: list[Tensor], w2: list[Tensor]) -> Tensor:
    """[T, H]: the weighted sum of each token's experts."""''',
    hints=(
        "Two loops will do: over tokens, and over the experts that a token visits. Begin with x.new_zeros(x.shape).",
        "For one token: both = w13[e] @ x[t] has 2I entries, of which the first I are the gate, the others up.",
        "y[t] += weights[t, j] * (w2[e] @ (gate * gate.sigmoid() * up)) for e = ids[t, j].",
    ),
    reference=answers.experts,
    view=_show_experts,
    example=lambda: experts_case(1, 1).arguments,
    properties=(
        _experts_agree(
            "one expert is a SwiGLU MLP",
            "Gate is the first half of w13, and silu belongs to it, not to up.",
            lambda: experts_case(1, 1, weight=1.0),
        ),
        _experts_agree(
            "a token goes to its own expert",
            "Expert e's weights are w13[e] and w2[e].",
            lambda: experts_case(1, 1, weight=1.0, first=5),
            lambda: experts_case(3, 1, weight=1.0),
        ),
        _experts_agree(
            "the outputs of all k experts are summed",
            "Each of a token's experts adds its output.",
            lambda: experts_case(1, 2, weight=1.0),
        ),
        _experts_agree(
            "each expert counts by its weight",
            "weights[t, j] belongs to the expert ids[t, j].",
            lambda: experts_case(1, 1, weight=0.5),
            lambda: experts_case(1, 2),
            lambda: experts_case(4, 3),
        ),
    ),
)

# --- FLOPs and bytes -----------------------------------------------------------------------------------------------

TOKENS = (1, 2, 16, 256, 4096)
SHAPES = ("tiny", "mixtral-8x7b", "qwen3-30b-a3b")


def _shape(name: str) -> ModelShape:
    """In bf16 throughout, so that a parameter is two bytes."""
    return read_model({"preset": name, "dtype": "bf16", "expert_dtype": "bf16"})


def package_work(shape: ModelShape, tokens: int) -> tuple[float, float]:
    """(FLOPs, bytes of weights) of the routed experts as the simulator counts them."""
    scenario = Scenario.create(model=shape.model_dump(), group={"ranks": 1}, workload={"tokens_per_rank": tokens})
    work = WorkModel(scenario).experts(tokens)[0]
    return work.flops, work.hbm_bytes


def _work_part(part: int, unit: str, why: str, tokens: tuple[int, ...]) -> Callable[[Any], str | None]:
    def violation(answer: Any) -> str | None:
        for name in SHAPES:
            for count in tokens:
                shape = _shape(name)
                called, wanted = attempt(answer, (shape, count)), package_work(shape, count)[part]
                where = f"expert_work({name}, {count})"
                if called.error:
                    return f"{where} {called.error}"
                try:
                    got = float(called.value[part])
                except (TypeError, ValueError, LookupError):
                    return f"{where} gives {shown(called.value)}; a pair (flops, nbytes) is wanted."
                if not same(got, wanted):
                    return f"{where}: {got:,.0f} {unit}, which is {got / wanted:.3g} times what it should be. {why}"
        return None

    return violation


def _show_work(answer: Any) -> Shown:
    rows = []
    for count in TOKENS:
        called = attempt(answer, (_shape("qwen3-30b-a3b"), count))
        try:
            flops, nbytes = (float(part) for part in called.value)
        except (TypeError, ValueError):
            rows.append((f"{count:,}", str(called), "", ""))
            continue
        rows.append((f"{count:,}", f"{flops / 1e9:.3f}", f"{nbytes / 1e6:.1f}", f"{flops / max(nbytes, 1):.2f}"))
    return Shown(
        "one layer of qwen3-30b-a3b, by your count\n" + table(("tokens", "GFLOP", "MB", "FLOP per byte"), rows)
    )


EXPERT_WORK = Exercise(
    key="moe_layer.expert_work",
    number="2.3",
    title="count FLOPs and bytes",
    difficulty=2,
    minutes=15,
    name="expert_work",
    spec="""\
Write `expert_work(shape, tokens)`: a pair of the FLOPs that the routed experts of one layer need for so many tokens,
and the bytes of weights they read. `shape` has `hidden` (H), `expert_intermediate` (I), `experts` (E) and `top_k` (k).
A multiplication and an addition are two FLOPs; weights are bf16. An expert is read once when any token visits it, and
not at all otherwise: take the expected number, with every expert equally likely for each token.""",
    stub='''\
def expert_work(shape: ModelShape, tokens: int) -> tuple[float, float]:
    """(FLOPs, bytes of weights)."""''',
    hints=(
        "An expert has three matrices of H x I: gate, up and down. A row through a matrix costs 2 FLOPs per parameter.",
        "FLOPs: every token makes k rows. Bytes: how many of the E experts does at least one of the tokens visit?",
        "A token passes by a given expert with probability 1 - k/E, so all of them do with (1 - k/E)^tokens.",
    ),
    reference=answers.expert_work,
    view=_show_work,
    example=lambda: (_shape("tiny"), 1),
    properties=(
        Property(
            "FLOPs of one token",
            _work_part(0, "FLOPs", "Three matrices of H x I, two FLOPs per parameter, k experts.", (1,)),
        ),
        Property("FLOPs grow with the tokens", _work_part(0, "FLOPs", "Every token makes k rows.", TOKENS)),
        Property("one token reads k experts", _work_part(1, "bytes", "Only visited experts are read.", (1,))),
        Property(
            "an expert is read once",
            _work_part(1, "bytes", "Two tokens that visit one expert read it once; there are only E of them.", TOKENS),
        ),
    ),
)

# --- what has to travel --------------------------------------------------------------------------------------------


def _copies(experts: int, top_k: int, owned: int) -> float:
    """As the simulator counts them; `owned` divides `experts`."""
    ranks = experts // owned
    fields = {"preset": "tiny", "experts": experts, "top_k": top_k}
    scenario = Scenario.create(model=fields, group={"ranks": ranks}, strategy={"name": "dep"})
    return WorkModel(scenario).copies_to(ranks - 1, 0)


def _show_share(answer: Any) -> Shown:
    cases = ((8, 2, 4), (8, 2, 2), (128, 8, 64), (128, 8, 32), (128, 8, 16), (256, 8, 64))
    rows = []
    for case in cases:
        called = attempt(answer, case)
        cell = f"{100 * float(called.value):.1f} %" if is_number(called.value) else str(called)
        rows.append((f"E = {case[0]}", case[1], case[2], cell))
    return Shown(table(("", "top_k", "owned", "your share_sent"), rows))


SHARE_SENT = Exercise(
    key="moe_layer.share_sent",
    number="2.4",
    title="which tokens must travel?",
    difficulty=2,
    minutes=10,
    name="share_sent",
    spec="""\
Under DEP a token is sent to a peer once if the peer owns *any* of its k experts. Write
`share_sent(experts, top_k, owned)`: the probability of that for a peer that owns `owned` of the experts, when every set
of k different experts is equally likely.""",
    stub='''\
def share_sent(experts: int, top_k: int, owned: int) -> float:
    """The probability that a token visits any of the owned experts."""''',
    hints=(
        "It is easier to count the tokens that need not go there.",
        "None of k different experts is among the owned: all k are among the other experts - owned.",
        "math.comb(n, k) counts the sets: 1 - comb(experts - owned, top_k) / comb(experts, top_k).",
    ),
    reference=answers.share_sent,
    view=_show_share,
    example=lambda: (2, 1, 1),
    properties=(
        agrees(
            "one expert per token: the owned share",
            "share_sent",
            _copies,
            [(2, 1, 1), (8, 1, 2), (128, 1, 32)],
            why="With k = 1 it is owned / experts.",
        ),
        agrees(
            "a token that needs every expert goes everywhere", "share_sent", _copies, [(2, 2, 1), (4, 4, 1), (8, 8, 2)]
        ),
        agrees(
            "several experts on one peer are one trip",
            "share_sent",
            _copies,
            [(4, 2, 2), (8, 2, 2), (8, 2, 4), (128, 8, 32), (256, 8, 64)],
            why="The k experts are different, and the token goes once however many of them are there.",
        ),
    ),
)


def _touched() -> Revealed:
    shape = read_model("qwen3-30b-a3b")
    visits = visit_probability(shape.experts, shape.top_k, 0.0, 0, 0)
    touched = {tokens: sum(1 - (1 - share) ** tokens for share in visits) for tokens in (1, 16, 64, 256)}
    listed = ", ".join(f"{tokens} tokens {count:.1f}" for tokens, count in touched.items())
    return Revealed(touched[16], f"Experts visited, of {shape.experts}: {listed}.")


LESSON = lesson_of(
    "moe_layer",
    "02_the_moe_layer.ipynb",
    "The MoE layer",
    [ROUTE, EXPERTS, EXPERT_WORK, SHARE_SENT],
    [
        Prediction(
            "moe_layer.touched",
            "Qwen3-30B-A3B has 128 experts in a layer, and a token visits 8. How many *different* experts do **16** "
            "tokens visit together, if the router has no favourites?",
            "experts",
            8.0,
            _touched,
        )
    ],
)
