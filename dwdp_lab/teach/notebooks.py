"""Make the learners' notebooks from the solutions: `python -m dwdp_lab.teach.notebooks`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from dwdp_lab.teach.learner import learner
from dwdp_lab.teach.notebook_form import Notebook, as_text, canonical


def wanted_files(folder: Path, only: Collection[str] = ()) -> dict[Path, str]:
    """What `folder` and `folder`/solutions should hold, from the solutions as they are (those named `only`, if any).

    Raises ValueError, naming the notebook, for a solution that is not a notebook or whose regions are wrong.
    """
    wanted: dict[Path, str] = {}
    for path in sorted((folder / "solutions").glob("*.ipynb")):
        if only and path.name not in only:
            continue
        try:
            solution: Notebook = json.loads(path.read_text(encoding="utf-8"))
            wanted[path] = as_text(canonical(solution))
            wanted[folder / path.name] = as_text(learner(solution))
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}: {error}") from error
    return wanted


def out_of_date(folder: Path) -> list[str]:
    """One line per notebook that is missing, differs from what the solutions make, or has no solution."""
    wanted = wanted_files(folder)
    found = []
    for path, text in wanted.items():
        if not path.exists():
            found.append(f"{path}: missing")
        elif path.read_text(encoding="utf-8") != text:
            found.append(f"{path}: differs from what its solution makes")
    strays = [path for path in sorted(folder.glob("*.ipynb")) if path not in wanted]
    return found + [f"{path}: has no solution in {folder / 'solutions'}" for path in strays]


def regenerate(folder: Path, only: Collection[str] = ()) -> list[Path]:
    """Write the notebooks that are out of date, of those named `only` where names are given; return their paths."""
    written = []
    for path, text in wanted_files(folder, only).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def execute(path: Path) -> None:
    """Run a solution's cells in a new kernel and keep the outputs. Raises nbclient's CellExecutionError."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    path.write_text(as_text(canonical(notebook)), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m dwdp_lab.teach.notebooks", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="NOTEBOOK", help="renew only these, such as 00_start_here.ipynb")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when something is out of date")
    parser.add_argument("--execute", action="store_true", help="run the solutions first, to renew their outputs")
    parser.add_argument("--folder", type=Path, default=Path("notebooks"), help="where the notebooks are")
    options = parser.parse_args(arguments)
    if not (options.folder / "solutions").is_dir():
        parser.error(f"--folder {options.folder}: has no folder `solutions`; run this in the repository")
    known = {path.name for path in (options.folder / "solutions").glob("*.ipynb")}
    if unknown := set(options.only) - known:
        parser.error(f"{', '.join(sorted(unknown))}: no such solution; known are {', '.join(sorted(known))}")
    if options.check:
        stale = out_of_date(options.folder)
        print("\n".join(stale) or "all notebooks are up to date")
        return 1 if stale else 0
    if options.execute:
        for name in sorted(options.only or known):
            execute(options.folder / "solutions" / name)
    for path in regenerate(options.folder, options.only):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
