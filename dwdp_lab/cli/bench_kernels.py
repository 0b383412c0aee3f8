"""`dwdp-lab bench kernels`: the Triton kernels against what a user would otherwise call, and against the limit."""

from __future__ import annotations

import argparse
import importlib.util
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dwdp_lab.cli.output import add_json_option, check_json, console_for, emit, working
from dwdp_lab.cli.tables import print_table
from dwdp_lab.scenario.errors import ScenarioError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from dwdp_kernels.bench import Plan
    from dwdp_kernels.bench_problems import GroupedShape
    from dwdp_kernels.tune import Tuned

PARTS = ("grouped", "layers")
DTYPES = ("bfloat16", "float16", "float8_e4m3fn")


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `dwdp-lab bench`."""
    parser = commands.add_parser(
        "kernels",
        help="grouped GEMM and whole MoE layers against torch, transformers and the limit",
        description="Measure the Triton kernels on this machine's GPU: random data, medians, results checked against "
        "float64 before anything is timed.",
    )
    parser.add_argument("--only", choices=PARTS, help="measure one part (default: all)")
    parser.add_argument(
        "--shape",
        action="append",
        metavar="E,ROWS,K,N",
        help="a grouped GEMM to measure instead of the usual ones and of the layers; may be repeated",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default=DTYPES[0],
        help="of operands and results; "
        "float8_e4m3fn: of operands, with a scale per row and output channel, beside ours in bfloat16",
    )
    parser.add_argument("--skew", type=float, default=0.5, help="spread of the router's log-popularities (0.5)")
    parser.add_argument("--repeats", type=int, default=30, help="timed runs of each (30)")
    parser.add_argument("--seed", type=int, default=0, help="of the random data (0)")
    parser.add_argument(
        "--tune", action="store_true", help="first find the best tile sizes on this GPU, and keep them in data/kernels/"
    )
    add_json_option(parser)
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Measure what the options ask for. Returns the exit status: 2 without a GPU, 1 when a result was wrong."""
    console = console_for(options)
    shapes = [_shape(text) for text in options.shape or ()]
    if not (1 <= options.repeats <= 10_000):
        raise ScenarioError("--repeats", options.repeats, "1 to 10000")
    if not (0.0 <= options.skew <= 10.0):
        raise ScenarioError("--skew", options.skew, "0 (all experts equally popular) to 10")
    check_json(options)
    lacking = lacking_for_kernels()
    if lacking is not None:
        console.print(f"dwdp-lab bench kernels: {lacking}", style="red", markup=False, soft_wrap=True)
        return 2
    from dwdp_kernels.bench import run_bench, run_tuning

    plan = _plan(options, shapes)
    figures: dict[str, Any] = {}
    try:
        with working("starting") as say:
            if options.tune:
                tuned, table = run_tuning(plan, say)
                figures["tuned"] = {"table": table.name, "entries": [one.entry() for one in tuned]}
                print_table(console, _tuned_table(tuned))
                console.print(f"kept in {table}", markup=False, soft_wrap=True)
            figures |= run_bench(plan, say)
    except ArithmeticError as error:
        console.print(f"dwdp-lab bench kernels: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    emit(options, figures, lambda console: _show(console, figures))
    return 0


def lacking_for_kernels() -> str | None:
    """What this machine lacks to run the kernels, and what to do; None when it lacks nothing."""
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            return f"needs {package}, which is not installed: pip install 'dwdp-lab[lab]' on Linux x86_64"
    import torch

    if not torch.cuda.is_available():
        return (
            f"needs an NVIDIA GPU, and torch {torch.__version__} sees none here; "
            "run it on a machine with one (an H100, say), with a CUDA build of torch"
        )
    return None


def _shape(text: str) -> GroupedShape:
    try:
        experts, rows, k, n = (int(part) for part in text.split(","))
    except ValueError:
        raise ScenarioError(
            "--shape", text, "four whole numbers are needed: E,ROWS,K,N", "try 64,49152,2048,2816"
        ) from None
    if min(experts, rows, k, n) < 1 or k % 16 or n % 16:
        raise ScenarioError("--shape", text, "all of E,ROWS,K,N at least 1, K and N multiples of 16")
    from dwdp_kernels.bench_problems import GroupedShape

    return GroupedShape(experts, rows, k, n)


def _plan(options: argparse.Namespace, shapes: list[GroupedShape]) -> Plan:
    import torch
    from dwdp_kernels.bench import Plan

    plan = Plan(dtype=getattr(torch, options.dtype), skew=options.skew, seed=options.seed, repeats=options.repeats)
    if shapes:
        plan = plan._replace(grouped=shapes, layers=())
    elif options.only == "grouped":
        plan = plan._replace(layers=())
    elif options.only == "layers":
        plan = plan._replace(grouped=())
    return plan


def _show(console: Console, figures: dict[str, Any]) -> None:
    ceilings = figures["ceilings"]
    console.print(
        f"{figures['device']}, torch {figures['torch']}, Triton {figures['triton']}, {figures['dtype']}: at best "
        f"{ceilings['tflops']:.0f} TFLOP/s and {ceilings['gbps']:.0f} GB/s, measured just now",
        markup=False,
        soft_wrap=True,
    )
    if figures["grouped"]:
        print_table(console, _grouped_table(figures["grouped"]))
    if figures["layers"]:
        print_table(console, _layer_table(figures["layers"]))
    mean = figures["summary"]["torch_time_over_ours_geometric_mean"]
    if mean is not None:
        least = figures["summary"]["torch_time_over_ours_least"]
        console.print(f"torch's time over ours: geometric mean {mean:.3f}, least {least:.3f}")


def _grouped_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="grouped GEMM, TFLOP/s", title_justify="left")
    table.add_column("E, rows, K, N", no_wrap=True)
    scaled = "error_of_unquantised" in rows[0]
    names = ("ours", "ours_bf16", "torch", "dense") if scaled else ("ours", "torch", "dense")
    columns = (*names, "limit", "torch/ours", "2 buf.", "4", "8", "error", *(("unquantised",) if scaled else ()))
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right", no_wrap=True)
    for row in rows:
        flops = row["ours"]["tflops"] * row["ours"]["median_us"]
        buffers = [row["buffers"].get(count) for count in ("2", "4", "8")]
        ratio = row["torch_time_over_ours"]
        table.add_row(
            f"{row['experts']}, {row['rows']}, {row['k']}, {row['n']}",
            *(f"{row[name]['tflops']:.0f}" if name in row else "none" for name in names),
            f"{flops / row['limit_us']:.0f}",
            "" if ratio is None else f"{ratio:.3f}",
            *("" if split is None else f"{split['one_time_over_split']:.3f}" for split in buffers),
            f"{row['relative_error']:.1e}",
            *((f"{row['error_of_unquantised']:.1e}",) if scaled else ()),
        )
    return table


def _layer_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="whole MoE layer, ms", title_justify="left")
    table.add_column("layer", no_wrap=True)
    scaled = "error_of_unquantised" in rows[0]
    rivals = {"ours_bf16": "ours bf16"} if scaled else {"transformers": "transformers", "eager_loop": "eager loop"}
    names = ("ours", "ours_two_buffers", *rivals)
    first, title = next(iter(rivals.items()))
    for column in ("ours", "two buffers", *rivals.values(), "limit", "ours TFLOP/s", f"{title}/ours"):
        table.add_column(column, justify="right")
    for row in rows:
        ratio = row["time_over_ours"].get(first)
        table.add_row(
            f"{row['name']}, {row['tokens']} tokens",
            *(f"{row[name]['median_us'] / 1e3:.3f}" if name in row else "not installed" for name in names),
            f"{row['limit_us'] / 1e3:.3f}",
            f"{row['ours']['tflops']:.0f}",
            "" if ratio is None else f"{ratio:.2f}",
        )
    return table


def _tuned_table(tuned: list[Tuned]) -> Table:
    table = Table(title="tuned", title_justify="left")
    for column in ("kind", "E, rows, K, N", "tile", "TFLOP/s", "default/best"):
        table.add_column(column, no_wrap=True)
    for one in tuned:
        problem, best = one.problem, one.best
        table.add_row(
            problem.kind,
            f"{problem.experts}, {problem.rows}, {problem.k}, {problem.n}",
            f"{best.block_m}x{best.block_n}x{best.block_k} w{best.warps} s{best.stages} {best.weights}",
            f"{one.tflops:.0f}",
            f"{one.default_us / one.median_us:.3f}",
        )
    return table
