"""`dwdp-lab bench WHAT`: measurements, one module each."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from dwdp_lab.cli import bench_all, bench_compare, bench_contention, bench_copies, bench_kernels, bench_strategies

if TYPE_CHECKING:
    from argparse import _SubParsersAction

BENCHMARKS = (bench_all, bench_strategies, bench_compare, bench_kernels, bench_copies, bench_contention)


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("bench", help="measure this machine", description="Measure this machine.")
    whats = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for benchmark in BENCHMARKS:
        benchmark.add_to(whats)
