"""`dwdp-lab COMMAND`: one module per command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from dwdp_lab import __version__
from dwdp_lab.cli import bench, calibrate, doctor, paper, predict, progress, run
from dwdp_lab.scenario.errors import ScenarioError

COMMANDS = (run, predict, calibrate, bench, paper, progress, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, or 2 for input that cannot be used, or 1 for a run that failed."""
    parser = argparse.ArgumentParser(
        prog="dwdp-lab",
        description="See, change, break and measure mixture-of-experts inference without synchronisation.",
    )
    parser.add_argument("--version", action="version", version=f"dwdp-lab {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    options = parser.parse_args(arguments)
    try:
        status: int = options.call(options)
    except ScenarioError as error:
        print(f"dwdp-lab {options.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # who read our output (such as `head`) wants no more
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - Python would complain again when it flushes at the end
        return 1
    except KeyboardInterrupt:
        print(f"dwdp-lab {options.command}: interrupted; nothing is left running", file=sys.stderr)
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
