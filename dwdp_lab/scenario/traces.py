"""Request lengths from real traces.

Formats, told apart by the file's ending: Azure LLM inference trace 2023 (`.csv`: TIMESTAMP, ContextTokens,
GeneratedTokens; Patel et al., "Splitwise", ISCA 2024), Mooncake (`.jsonl`: input_length, hash_ids of
512-token blocks; Qin et al., FAST 2025), and lists of lengths (`.json`: {"lengths": [...]}), some of which
ship in data/lengths/.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from dwdp_lab.scenario.errors import ScenarioError, nearest
from dwdp_lab.scenario.shipped import shipped

BLOCK_TOKENS = 512
"""Tokens of one prefix-cache block in the Mooncake trace."""

LONGEST_TOKENS = 10**9
"""More is a broken file: no model has such a context."""


class TraceRequest(NamedTuple):
    """One request: its input length, and the hashes of its leading blocks (none where the trace has none)."""

    length_tokens: int
    blocks: tuple[int, ...] = ()


def read_trace(file: Path, skip: int = 0, requests: int | None = None) -> tuple[TraceRequest, ...]:
    """Requests `skip` to `skip + requests` of a trace file or of a shipped list, in order of arrival.

    Raises ScenarioError (field `workload.file`, `workload.skip` or `workload.requests`) for a file that is
    missing, of an unknown format or broken (with its line), or that has too few requests.
    """
    path = _resolve(file)
    stat = path.stat()
    everything = _read(path, stat.st_mtime_ns, stat.st_size)
    left = len(everything) - skip
    if left < (requests or 1):
        if not everything:
            raise ScenarioError("workload.file", str(file), "has no requests")
        raise ScenarioError(
            "workload.skip" if left < 1 else "workload.requests",
            skip if left < 1 else requests,
            f"{file} has {len(everything)} requests" + (f", {left} after the skipped" if skip and left > 0 else ""),
            "ask for fewer, or leave `requests` out to take all",
        )
    return everything[skip:] if requests is None else everything[skip : skip + requests]


def _resolve(file: Path) -> Path:
    # os.path answers no where Path raises: a home that is not there, a name that is too long
    path = Path(os.path.expanduser(file))
    if os.path.isfile(path):
        return path
    known = shipped("lengths", ".json")
    if str(file) in known:
        return known[str(file)]
    raise ScenarioError(
        "workload.file",
        str(file),
        f"no such file, nor one of the shipped lists ({', '.join(sorted(known))})",
        nearest(str(file), known),
    )


@lru_cache(maxsize=8)
def _read(path: Path, _modified_ns: int, _size: int) -> tuple[TraceRequest, ...]:
    """The whole file; read again only when it has changed."""
    readers: dict[str, Callable[[Path], Iterator[TraceRequest]]] = {
        ".csv": _azure,
        ".jsonl": _mooncake,
        ".json": _lengths,
    }
    reader = readers.get(path.suffix)
    if reader is None:
        raise ScenarioError("workload.file", str(path), f"needs one of the endings {', '.join(readers)}")
    try:
        return tuple(reader(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScenarioError("workload.file", str(path), f"cannot be read as {path.suffix}: {error}") from None


def _azure(path: Path) -> Iterator[TraceRequest]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if "ContextTokens" not in (rows.fieldnames or ()):
            raise ScenarioError("workload.file", str(path), f"needs a column ContextTokens, has {rows.fieldnames}")
        for row in rows:
            yield _request(path, rows.line_num, row["ContextTokens"])


def _mooncake(path: Path) -> Iterator[TraceRequest]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                length, blocks = row["input_length"], tuple(row.get("hash_ids", ()))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise _broken(path, number, line, "each line needs JSON with input_length") from None
            if not all(isinstance(block, int) for block in blocks):
                raise _broken(path, number, blocks, "hash_ids are whole numbers")
            yield _request(path, number, length)._replace(blocks=blocks)


def _lengths(path: Path) -> Iterator[TraceRequest]:
    try:
        lengths = json.loads(path.read_text(encoding="utf-8"))["lengths"]
    except UnicodeDecodeError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        lengths = None
    if not isinstance(lengths, list):
        raise ScenarioError("workload.file", str(path), 'needs JSON {"lengths": [...]}') from None
    for number, length in enumerate(lengths, 1):
        yield _request(path, number, length)


def _request(path: Path, number: int, length: object) -> TraceRequest:
    try:
        tokens = int(str(length))
    except ValueError:
        tokens = 0
    if not 1 <= tokens <= LONGEST_TOKENS:
        raise _broken(path, number, length, f"lengths are whole numbers from 1 to {LONGEST_TOKENS}")
    return TraceRequest(tokens)


def _broken(path: Path, number: int, found: object, says: str) -> ScenarioError:
    return ScenarioError("workload.file", f"{path}:{number}: {str(found).strip()[:80]}", says)
