"""The exercise on the composite view: which page of a range shows whose memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dwdp_lab.teach import split_weights_answers as answers
from dwdp_lab.teach.attempt import attempt, call_text, shown
from dwdp_lab.teach.exercise import Exercise, Property, Target
from dwdp_lab.teach.shown import Shown, table

Piece = tuple[int, int, str]
"""(first byte, end, what it shows)"""
Case = tuple[int, int, int, int]
"""start and end of the local experts, bytes of the range, bytes of a page"""

KINDS = ("slot", "own", "copied")
QWEN_W2 = (85 * 3, 128 * 3, 384, 2)
"""w2 of Qwen3-30B-A3B on the last of three ranks, in the 2 MiB pages of a GPU: 3 MiB an expert, experts 85 to 127.

All in MiB, not in bytes: an answer that looks at every byte is right as well, and should not take minutes.
"""


def cases() -> Iterator[Case]:
    """Ranges of one to four pages of four bytes with every place for the local experts, then a real one."""
    page = 4
    for pages in range(1, 5):
        for start in range(pages * page):
            for end in range(start + 1, pages * page + 1):
                yield start, end, pages * page, page
    yield QWEN_W2


def _as_pieces(value: Any) -> list[Piece] | None:
    try:
        pieces = [(int(first), int(end), str(kind)) for first, end, kind in value]
    except (TypeError, ValueError):
        return None
    return pieces if all(kind in KINDS for _, _, kind in pieces) else None


def _on_each(test: Callable[[list[Piece], Case], str | None]) -> Callable[[Any], str | None]:
    def violation(answer: Any) -> str | None:
        for case in cases():
            called = attempt(answer, case)
            where = call_text("pieces", case)
            if called.error:
                return f"{where} {called.error}"
            found = _as_pieces(called.value)
            if found is None:
                return (
                    f'{where} gives {shown(called.value)}; a list of (first, end, "slot", "own" or "copied") is wanted.'
                )
            if wrong := test(found, case):
                return f"{where} gives {shown(found)}: {wrong}"
        return None

    return violation


def _covers(found: list[Piece], case: Case) -> str | None:
    at = 0
    for first, end, _ in found:
        if end <= first:
            return f"the piece from {first} to {end} shows nothing; leave it out."
        if first != at:
            return f"a piece from {first} to {end} where one from {at} on is due; each begins where the last one ends."
        at = end
    return None if at == case[2] else f"the pieces end at {at}, the range at {case[2]}."


def _whole_pages(found: list[Piece], case: Case) -> str | None:
    for first, end, kind in found:
        if first % case[3] or end % case[3]:
            return f"{kind!r} from {first} to {end} cuts a page of {case[3]} bytes."
    return None


def _own_is_safe(found: list[Piece], case: Case) -> str | None:
    start, end, _, _ = case
    for first, last, kind in found:
        if kind == "own" and (first < start or last > end):
            byte = first if first < start else end
            return (
                f"byte {byte} belongs to an expert that is pulled, but shows the rank's own memory: the pull would "
                "overwrite what peers read there."
            )
    return None


def _own_is_there(found: list[Piece], case: Case) -> str | None:
    start, end, _, _ = case
    for first, last, kind in found:
        if kind == "slot" and first < end and last > start:
            return f"byte {max(first, start)} belongs to a local expert, but shows the slot: nobody copies it there."
    return None


def copied_bytes(answer: Any, case: Case) -> int:
    """How much of the range is a copy of its own."""
    found = _as_pieces(answer(*case)) or []
    return sum(end - first for first, end, kind in found if kind == "copied")


def _show(answer: Any) -> Shown:
    marks = {"slot": ".", "own": "#", "copied": "+"}
    rows = []
    for case in ((4, 8, 16, 4), (6, 14, 16, 4), (5, 7, 16, 4), (0, 10, 16, 4)):
        called = attempt(answer, case)
        found = _as_pieces(called.value)
        if found is None:
            return Shown(f"{call_text('pieces', case)}: {called}")
        owned = "".join("#" if case[0] <= byte < case[1] else "." for byte in range(case[2]))
        line = "".join(marks[kind] * (end - first) for first, end, kind in found)
        cuts = ", ".join(str(end) for _, end, _ in found if end % case[3])
        said = f"cuts a page at byte {cuts}" if cuts else ""
        rows.append((call_text("pieces", case), _paged(owned, case[3]), _paged(line, case[3]), said))
    key = "bytes: # is a local expert's, . a pulled one's; your pieces: # shows own memory, . the slot, + a copied page"
    return Shown(key + "\n" + table(("pages of four bytes", "bytes", "your pieces", ""), rows))


def _paged(line: str, page: int) -> str:
    return "|".join(line[at : at + page] for at in range(0, len(line), page))


PIECES = Exercise(
    key="split_weights.pieces",
    number="6.2",
    title="which page shows what?",
    difficulty=2,
    minutes=10,
    name="pieces",
    spec="""\
One parameter of all experts takes the bytes 0 to `nbytes` of a range; those of the local experts are `start` to
`end`, all others are pulled. Memory is mapped in whole pages of `page` bytes (`nbytes` is a multiple, `start` and `end`
need not be). Write `pieces(start, end, nbytes, page)`: what the range shows, as pieces `(first, end, kind)` of one or
more whole pages each, in order, with the kinds

- `"slot"`: the staging slot, where pulls write;
- `"own"`: this rank's own memory, which its peers read, and which nobody may write;
- `"copied"`: a page of the range's own. The local bytes on it are copied there once, when the range is made, and
  pulls write the others.

*Correct* is what shows the right bytes and lets no pull write into own memory. It is *good* when no page is copied
that need not be: the target is the lab's own, for a parameter of Qwen3-30B-A3B on three GPUs.""",
    stub='''\
def pieces(start: int, end: int, nbytes: int, page: int) -> list[tuple[int, int, str]]:
    """(first byte, end, "slot" or "own" or "copied") of each piece, in order."""''',
    hints=(
        "Look at one page at a time: are its bytes all local, all pulled, or of both kinds?",
        "A page from f to f + page is all local when start <= f and f + page <= end, and all pulled when f + page <= "
        "start or f >= end. Any other page is copied.",
        "One piece per page is allowed: [(f, f + page, kind) for f in range(0, nbytes, page)].",
    ),
    reference=answers.pieces,
    view=_show,
    example=lambda: (0, 1, 4, 4),
    properties=(
        Property("the pieces cover the range once", _on_each(_covers)),
        Property("pieces are whole pages", _on_each(_whole_pages)),
        Property("no pull writes into own memory", _on_each(_own_is_safe)),
        Property("local experts are where they belong", _on_each(_own_is_there)),
    ),
    targets=(
        Target(
            "copied, of w2 of Qwen3-30B-A3B with pages of 2 MiB",
            lambda answer: copied_bytes(answer, QWEN_W2),
            lambda: copied_bytes(answers.pieces, QWEN_W2),
            "MiB",
            digits=0,
        ),
    ),
)
