"""What `bench copies` and `bench contention` share: options, refusals, running on ranks, pictures."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from dwdp_lab.cli.output import add_json_option, check_json, console_for, emit, working, write_text
from dwdp_lab.scenario.allowed import SizeWord
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.timeline.words import size

if TYPE_CHECKING:
    from dwdp_lab.execute.ranks import OnProgress, Ranks


class Drawn(Protocol):
    """A chart or a map."""

    def svg(self) -> str: ...


Bench = Callable[["Ranks", "OnProgress"], dict[str, Any]]
Draw = Callable[[dict[str, Any]], Mapping[str, Drawn]]
_SIZE: TypeAdapter[int] = TypeAdapter(Annotated[int, SizeWord])


def add_transfer_options(parser: argparse.ArgumentParser, ranks: int, repeats: int) -> None:
    """Add what both have."""
    parser.add_argument(
        "--machine", choices=("cpu", "cuda"), default="cpu", help="CPU ranks (default), or one GPU each"
    )
    parser.add_argument("--ranks", type=int, default=ranks, metavar="N", help=f"ranks of the group ({ranks})")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"timed turns of each case ({repeats})")
    parser.add_argument("--seed", type=int, default=0, help="of the order of turns and all that is drawn (0)")
    parser.add_argument("--evict", metavar="SIZE", help="what each rank writes before a turn to empty caches")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw the results as SVG files there")
    add_json_option(parser)


def check_transfer_options(options: argparse.Namespace) -> None:
    """Raise ScenarioError for what cannot be measured here, before anything is started."""
    if not (2 <= options.ranks <= 64):
        raise ScenarioError("--ranks", options.ranks, "2 to 64: one rank has nobody to read from")
    if not (1 <= options.repeats <= 10_000):
        raise ScenarioError("--repeats", options.repeats, "1 to 10000")
    check_json(options)
    if options.pictures is not None and not options.pictures.expanduser().is_dir():
        raise ScenarioError("--pictures", str(options.pictures), "is no folder", "make it first")
    if options.machine == "cuda" and (lacking := lacking_for_gpu_ranks()) is not None:
        raise ScenarioError("--machine", "cuda", lacking, "take --machine cpu, or a machine with NVIDIA GPUs")


def lacking_for_gpu_ranks() -> str | None:
    """What this machine lacks to copy between GPUs; None when it lacks nothing that can be seen from here."""
    if importlib.util.find_spec("torch") is None:
        return "needs torch, which is not installed"
    import torch

    if not torch.cuda.is_available():
        return f"needs an NVIDIA GPU, and torch {torch.__version__} sees none here"
    try:
        found = importlib.util.find_spec("cuda.bindings")
    except ModuleNotFoundError:
        found = None
    return None if found is not None else "needs cuda-python, which is not installed (pip install cuda-python)"


def size_option(option: str, text: str, least: int, most: int = 1 << 40) -> int:
    """Bytes from `64KiB`, `1.5MiB` or `4096`. Raises ScenarioError (field: the option)."""
    try:
        nbytes = _SIZE.validate_python(text)
    except ValidationError:
        raise ScenarioError(option, text, "needs a size in bytes or such as 256KiB or 16MiB") from None
    if not (least <= nbytes <= most):
        raise ScenarioError(option, text, f"must be from {least} to {most} bytes")
    return nbytes


def evict_option(options: argparse.Namespace) -> int | None:
    """What `--evict` says. Raises ScenarioError."""
    return None if options.evict is None else size_option("--evict", options.evict, 0, 1 << 32)


def command_of(bench: str, options: argparse.Namespace, **own: object) -> str:
    """What measures the same again; `own` are the options that only this bench has."""
    asked = {"machine": options.machine, "ranks": options.ranks, **own}
    asked |= {"repeats": options.repeats, "seed": options.seed, "evict": evict_option(options)}
    words = (f"--{name} {value}" for name, value in asked.items() if value is not None)
    return f"dwdp-lab bench {bench} {' '.join(words)}"


def cut_of(row: dict[str, Any]) -> str:
    """How large the slices of a row of a record are."""
    return "whole" if row["slice_bytes"] is None else size(row["slice_bytes"])


def run_bench(
    options: argparse.Namespace, bench: Bench, show: Callable[[Console, dict[str, Any]], None], draw: Draw
) -> int:
    """Measure on ranks of its own, write and show. Returns the exit status: 1 when a rank failed."""
    from dwdp_lab.execute.failures import RankFailed
    from dwdp_lab.execute.ranks import Ranks

    ranks = Ranks(options.ranks)  # they start when the first is asked something
    try:
        with working(f"starting {options.ranks} rank processes") as say:
            record = bench(ranks, lambda done, doing: say(f"{doing} ({100 * done:.0f} %)"))
    except RankFailed as failure:
        console_for(options).print(str(failure), style="red", markup=False)
        return 1
    finally:
        ranks.stop()
    if options.pictures is not None:
        for name, drawn in draw(record).items():
            write_text("--pictures", options.pictures / f"{name}.svg", drawn.svg())
    emit(options, record, lambda console: show(console, record))
    return 0


def show_head(console: Console, record: dict[str, Any]) -> None:
    """What was measured on, and what it is worth."""
    late = record["start_late_us"]
    where = f"{record['device']}, {record['ranks']} {record['machine']} ranks"
    console.print(
        f"{record['title']}: {record['provenance']} on {where}, "
        f"medians of {record['repeats']}; {record['checked_bytes'] / 1e9:.1f} GB received and checked; copies began "
        f"{late['median_us']:.1f} us after the agreed moment (slowest tenth: {late['high_us']:.1f} us and more)",
        markup=False,
        soft_wrap=True,
    )
    for note in record["notes"]:
        console.print(f"- {note}", markup=False, soft_wrap=True)


def table_of(title: str, first: str, *columns: str) -> Table:
    """An empty table: the first column says what a row is, the others hold figures."""
    table = Table(title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table
