"""Runs a learner's kernel on small problems: `python -m dwdp_lab.teach.kernel_process`, orders in, results out.

A process of its own, because a wrong address ends it, and because Triton decides when it is imported whether it
interprets kernels (here, when there is no GPU) or compiles them. Reads a JSON line per order and writes one per case.
It ends with its input.
"""

from __future__ import annotations

import json
import linecache
import math
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.shared_memory import Mapping, shared_block
from dwdp_lab.teach.gemm_cases import BLOCK, RIGHT, UNWRITTEN, WRONG, GemmCase, Tried

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
UNTOUCHED = 7776.0  # exact in fp16, and no result comes near it
GUARD = 4096  # elements on both sides of the output
GAP = 16


def main() -> None:
    """One order after another: the source of a kernel, its name, and the cases to try."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the kernel prints is no answer
    with tempfile.TemporaryDirectory() as folder:
        for number, line in enumerate(sys.stdin):
            order = json.loads(line)
            file = Path(folder) / f"kernel_{number}.py"  # Triton reads its functions from files
            file.write_text(order["source"], encoding="utf-8")
            for fields in order["cases"]:
                result = _try(file, order["name"], GemmCase(tuple(fields[0]), *fields[1:]))
                answers.write(json.dumps(result) + "\n")


def _try(file: Path, name: str, case: GemmCase) -> Tried:
    torch.manual_seed(1)
    drawn = torch.randn(len(case.counts), case.n, case.k) / math.sqrt(case.k)
    weights = _spread(drawn.to(DEVICE, torch.float16), case.buffers)
    whole = torch.full((2 * GUARD + sum(case.counts) * case.n,), UNTOUCHED, dtype=torch.float16, device=DEVICE)
    out = whole[GUARD : len(whole) - GUARD].view(-1, case.n)
    try:
        with _rows(case) as rows:
            _launch(_kernel(file, name), case, rows[0], weights, out)
            return _judge(case, rows, weights, out, whole)
    except (MemoryError, torch.OutOfMemoryError) as error:
        return Tried(skipped=f"there is not enough memory for it: {error}")
    except Exception as error:
        return Tried(error=_told(error, file))


def _kernel(file: Path, name: str) -> Any:
    import triton

    names: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), names)
    found = names[name]
    return found if hasattr(found, "run") else triton.jit(found)


def _launch(kernel: Any, case: GemmCase, x: Tensor, weights: list[Tensor], out: Tensor) -> None:
    tiles = case.tiles
    kernel[(len(tiles), -(-case.n // BLOCK))](
        x,
        case.x_stride or case.k,
        torch.tensor([weight.data_ptr() for weight in weights], dtype=torch.int64, device=DEVICE),
        out,
        torch.tensor(case.offsets, dtype=torch.int32, device=DEVICE),
        torch.tensor([expert for expert, _ in tiles], dtype=torch.int32, device=DEVICE),
        torch.tensor([row for _, row in tiles], dtype=torch.int32, device=DEVICE),
        case.k,
        case.n,
        block_m=BLOCK,
        block_n=BLOCK,
        block_k=BLOCK,
    )
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def _rows(case: GemmCase) -> Iterator[list[Tensor]]:
    """Each row of x; they lie `x_stride` apart, and NaNs lie behind the last where rows are close."""
    torch.manual_seed(0)
    count, stride = sum(case.counts), case.x_stride or case.k
    drawn = torch.randn(count, case.k).half()
    far = None
    if case.x_stride and DEVICE.type == "cpu":
        # a sparse file: only pages that are touched take memory. The tensor that the kernel gets is one row long,
        # because Triton's interpreter copies whole tensors to themselves
        fd = shared_block(2 * count * stride)
        far = Mapping(fd, 2 * count * stride)
        os.close(fd)
        rows = [far.tensor(2 * row * stride, (case.k,), torch.float16) for row in range(count)]
    else:
        memory = torch.empty((count + BLOCK) * stride, dtype=torch.float16, device=DEVICE)
        memory[count * stride :][: BLOCK * case.k] = math.nan
        rows = [memory[row * stride :][: case.k] for row in range(count)]
    for row, values in zip(rows, drawn, strict=True):
        row.copy_(values)
    try:
        yield rows
    finally:
        if far is not None:
            far.close()


def _spread(weights: Tensor, buffers: int) -> list[Tensor]:
    """The experts' weights dealt to so many buffers: one without gaps, or several with NaNs in between."""
    experts, n, k = weights.shape
    gap = GAP if buffers > 1 else 0
    places: list[Tensor] = [weights] * experts
    for first in range(buffers):
        own = range(first, experts, buffers)
        memory = torch.full((len(own) * (n * k + gap) + GAP,), math.nan, dtype=weights.dtype, device=DEVICE)
        for place, expert in enumerate(own):
            places[expert] = memory[place * (n * k + gap) :][: n * k].view(n, k)
            places[expert].copy_(weights[expert])
    return places


def _judge(case: GemmCase, x_rows: list[Tensor], weights: list[Tensor], out: Tensor, whole: Tensor) -> Tried:
    guards = torch.cat([whole[:GUARD], whole[len(whole) - GUARD :]])
    strays = (guards != UNTOUCHED).nonzero()
    stray = ""
    if len(strays):
        place = int(strays[0])
        where = f"{GUARD - place} elements before" if place < GUARD else "behind the end of"
        stray = f"something is written {where} the output of {len(out)} x {case.n}."
    expert_of = [expert for expert, count in enumerate(case.counts) for _ in range(count)]
    cells, words = [], ""
    for row, (values, expert) in enumerate(zip(x_rows, expert_of, strict=True)):
        weight = weights[expert].double()
        exact = weight @ values.double()
        # one rounding to fp16, and fp32 sums in any order
        room = 1.01 * 2**-11 * exact.abs() + case.k * 2**-23 * (weight.abs() @ values.double().abs()) + 2**-25
        untouched, near = out[row] == UNTOUCHED, (out[row].double() - exact).abs() <= room
        marks = torch.where(near, 0, torch.where(untouched, 2, 1)).tolist()
        cells.append("".join((RIGHT, WRONG, UNWRITTEN)[mark] for mark in marks))
        bad = next((column for column, mark in enumerate(marks) if mark), None)
        if bad is not None and not words:
            got = "is not written" if marks[bad] == 2 else f"is {float(out[row, bad]):.4g}, not {float(exact[bad]):.4g}"
            words = f"row {row} (expert {expert}), column {bad} {got}."
    return Tried(words=words, stray=stray, cells=tuple(cells))


def _told(error: BaseException, file: Path) -> str:
    """What was raised, with the kernel's line; Triton wraps what its interpreter and compiler raise."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    inner = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
        frames += [frame for frame in traceback.extract_tb(inner.__traceback__) if frame.filename == str(file)]
    said = " ".join(str(inner).split())
    line = linecache.getline(str(file), frames[-1].lineno or 0).strip() if frames else ""
    return f"raises {type(inner).__name__}: {said[:400]}" + (f" (in: {line})" if line else "")


if __name__ == "__main__":
    if DEVICE.type == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton
    main()
