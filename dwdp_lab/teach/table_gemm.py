"""The exercise on the pointer-table GEMM: a Triton kernel, tried on small problems that each ask for one thing more."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.gemm_cases import ONE_TILE, STEPS, GemmCase, Tried
from dwdp_lab.teach.kernel_trial import TRIALS, function_of, triton_is_here
from dwdp_lab.teach.output_picture import output_picture
from dwdp_lab.teach.shown import Shown

FORM = (
    "x",
    "x_stride",
    "table",
    "out",
    "offsets",
    "tile_expert",
    "tile_row",
    "k",
    "n",
    "block_m",
    "block_n",
    "block_k",
)

CASES = tuple(case for _, _, cases in STEPS for case in cases)
SHOWN = tuple(cases[-1] for _, _, cases in STEPS)
PICTURED = GemmCase((40, 0, 1, 2), 40, 24)


def _results(answer: Any) -> dict[GemmCase, Tried]:
    function = function_of(answer)
    assert function is not None
    return dict(zip(CASES, TRIALS.results(function, CASES), strict=True))


def _not_a_kernel(answer: Any) -> str | None:
    """Why nothing can be tried, if so."""
    function = function_of(answer)
    form = f"def table_gemm({', '.join(FORM)})"
    if function is None:
        return f"{answer!r} is not of the form {form}."
    if tuple(inspect.signature(function).parameters) != FORM:
        given = ", ".join(inspect.signature(function).parameters)
        return f"def {function.__name__}({given}) is not of the form {form}."
    try:
        inspect.getsource(function)
    except OSError:
        return f"Python does not know the text of {function.__name__}: write it in a cell of this notebook."
    if not triton_is_here():
        return "Triton is not installed here; it exists for Linux. All other exercises work without it."
    return None


def _writes(answer: Any) -> str | None:
    first = _results(answer)[ONE_TILE]
    return None if first.error or first.wrote_something else f"{ONE_TILE}: the kernel ran and stored nothing into out."


def _tried(name: str, why: str, cases: Sequence[GemmCase]) -> Property:
    def violation(answer: Any) -> str | None:
        results = _results(answer)
        for case in cases:
            if fault := results[case].fault:
                return f"{case}: {_subject(results[case])}{fault} {why}".rstrip()
        return None

    return Property(name, violation)


def _subject(result: Tried) -> str:
    return "the kernel " if result.error else ""


def _show(answer: Any) -> Shown:
    if wrong := _not_a_kernel(answer):
        return Shown(wrong)
    results = _results(answer)
    rows = []
    for case in SHOWN:
        result = results[case]
        state = f"not tried: {result.skipped}" if result.skipped else result.fault or "right"
        rows.append((str(case), "  " + state[:150]))
    words = "\n".join(f"{case}\n {state}" for case, state in rows)
    cells = results[PICTURED].cells
    return Shown(words, output_picture(PICTURED, cells) if cells else None)


def _reference() -> str:
    """The lab's answer, as text: a jitted function has no source for `inspect`."""
    text = Path(__file__).with_name("table_gemm_kernel.py").read_text(encoding="utf-8")
    return text[text.index("@triton.jit") :].rstrip()


TABLE_GEMM = Exercise(
    key="split_weights.table_gemm",
    number="6.4",
    title="a GEMM that follows a table of addresses",
    difficulty=3,
    minutes=30,
    name="table_gemm",
    spec="""\
Write the grouped GEMM as a Triton kernel: out[r] = x[r] · w[e]ᵀ for the rows r of each expert e, in one launch,
wherever the weights lie. All is fp16, sums are fp32. Program (i, j) makes one tile: `block_m` rows from `tile_row[i]`
on, of the expert `tile_expert[i]`, and `block_n` columns from j `block_n` on.

| argument | |
|---|---|
| `x`, `x_stride` | pointer to the rows, sorted by expert, k numbers each; row r begins `x_stride` r elements after x |
| `table` | int64 [E]: the address of each expert's weight, [n, k] without gaps: its row c makes column c of `out` |
| `out` | pointer to [R, n], without gaps |
| `offsets` | int32 [E + 1]: the first row of each expert, and the end |
| `tile_expert`, `tile_row` | int32, an entry per tile; each begins with a row of its expert; they come in any order |

A number becomes a pointer by `address.to(tl.pointer_type(x.dtype.element_ty))`. The blocks are powers of two; k and n
are anything. `check` runs your kernel in a process of its own, so a wrong address costs nothing: interpreted on the
CPU here, compiled where there is a GPU.""",
    stub='''\
@triton.jit
def table_gemm(
    x,
    x_stride,
    table,
    out,
    offsets,
    tile_expert,
    tile_row,
    k,
    n,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
):
    """One tile of out."""
    # it may begin with these lines:
    # tile = tl.program_id(0)
    # rows = tl.load(tile_row + tile) + tl.arange(0, block_m)
    # columns = tl.program_id(1) * block_n + tl.arange(0, block_n)
    # total = tl.zeros((block_m, block_n), tl.float32)''',
    hints=(
        "Begin with one tile and k = block_k: load a [block_m, block_k] tile of x, a [block_n, block_k] tile of the "
        "weight, and store tl.dot(a, w.T). Addresses of a tile are x + rows[:, None] * x_stride + inner[None, :], "
        "with inner = tl.arange(0, block_k). Then put a loop over k around it.",
        "expert = tl.load(tile_expert + tile); its weight is tl.load(table + expert) made a pointer. Mask what you "
        "load by inner < k and columns < n, with other=0.0, and what you store by columns < n and rows < "
        "tl.load(offsets + expert + 1).",
        "rows and columns are int32, and so is rows * x_stride: write rows.to(tl.int64)[:, None] * x_stride, and "
        "the same for out. In the loop: for start in range(0, k, block_k): inner = start + tl.arange(0, "
        "block_k)[None, :]; total = tl.dot(a, w.T, total). At the end store total.to(out.dtype.element_ty).",
    ),
    reference=_reference(),
    view=_show,
    properties=(
        Property("it is a kernel of this form", _not_a_kernel),
        Property("something is written", _writes),
        *(_tried(name, why, cases) for name, why, cases in STEPS),
    ),
)
