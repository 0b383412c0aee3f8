"""Small problems for a pointer-table GEMM, and what a kernel made of one."""

from __future__ import annotations

from typing import NamedTuple

BLOCK = 16
"""Rows, columns and depth of a tile in all cases."""

RIGHT, WRONG, UNWRITTEN = "=", "x", "."


class GemmCase(NamedTuple):
    """`counts[e]` rows for expert e, each of k numbers; n columns of output.

    The weights lie in `buffers` allocations; with one they follow each other without gaps. `x_stride` is the distance
    between rows of x in elements (0: k).
    """

    counts: tuple[int, ...]
    k: int
    n: int
    buffers: int = 1
    x_stride: int = 0

    def __str__(self) -> str:
        rows = ", ".join(map(str, self.counts))
        words = f"experts with {rows} rows, K = {self.k}, N = {self.n}"
        if len(self.counts) == 1:
            words = f"one expert with {rows} rows, K = {self.k}, N = {self.n}"
        if self.buffers > 1:
            words += f", weights in {self.buffers} buffers"
        if self.x_stride:
            words += f", rows of x {self.x_stride:,} elements apart"
        return words

    @property
    def offsets(self) -> list[int]:
        """The first row of each expert, and the end."""
        ends = [0]
        for count in self.counts:
            ends.append(ends[-1] + count)
        return ends

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """(expert, first row) of each tile. The last come first: nobody promises an order."""
        ends = self.offsets
        found = [(e, row) for e in range(len(self.counts)) for row in range(ends[e], ends[e + 1], BLOCK)]
        return found[::-1]


class Tried(NamedTuple):
    """What became of a case. `cells[row]` has a mark for each column: right, wrong or unwritten.

    `error` is what was raised, or how the process ended; `skipped` why the case was not tried. `words` says which
    element is wrong first, `stray` where something was written outside of the output.
    """

    error: str = ""
    skipped: str = ""
    words: str = ""
    stray: str = ""
    cells: tuple[str, ...] = ()

    @property
    def fault(self) -> str:
        """The first thing that is wrong, in words; empty when nothing is."""
        return self.error or self.stray or self.words

    @property
    def wrote_something(self) -> bool:
        """Whether any element of the output was written."""
        return any(mark != UNWRITTEN for row in self.cells for mark in row)


ONE_TILE = GemmCase((16,), 16, 16)
FAR = 143_165_584  # elements; row 15, the last of a tile, begins beyond 2**31, more than an int32 holds

STEPS: tuple[tuple[str, str, tuple[GemmCase, ...]], ...] = (
    ("one tile is a product", "", (ONE_TILE,)),
    (
        "all of K is summed, in fp32",
        "K may be longer than block_k, and need not be a multiple of it; nothing is rounded before the end.",
        (GemmCase((16,), 32, 16), GemmCase((16,), 8, 16), GemmCase((16,), 40, 16)),
    ),
    (
        "columns end at N",
        "N may be wider than block_n, and need not be a multiple of it.",
        (GemmCase((16,), 16, 32), GemmCase((16,), 16, 8), GemmCase((16,), 16, 24)),
    ),
    (
        "rows of x are x_stride apart",
        "x may be part of something wider.",
        (GemmCase((16,), 16, 16, 1, 24),),
    ),
    (
        "a tile is what tile_expert and tile_row say",
        "A tile's number says neither its expert nor its rows.",
        (GemmCase((16, 16), 16, 16), GemmCase((32, 16), 16, 16)),
    ),
    (
        "an expert's rows end where the next one's begin",
        "A tile begins with rows of its expert; those from offsets[expert + 1] on are not for it to write.",
        (GemmCase((5,), 16, 16), GemmCase((5, 3), 16, 16), GemmCase((17, 1), 16, 16)),
    ),
    (
        "experts may have no rows",
        "Such an expert has no tile.",
        (GemmCase((0, 5), 16, 16), GemmCase((0, 0, 5, 0, 3), 24, 24)),
    ),
    (
        "one expert may have most of the rows",
        "An expert has as many tiles as its rows need.",
        (GemmCase((1, 40), 16, 16), GemmCase((40, 0, 1, 2), 40, 24)),
    ),
    (
        "weights may lie in several buffers",
        "Each expert has an address of its own in the table; nothing says how far apart they are.",
        (GemmCase((1, 1), 16, 16, 2), GemmCase((5, 0, 20, 3, 1), 24, 24, 3)),
    ),
    (
        "rows may lie far apart",
        "x_stride * row does not fit into 32 bits here: make the row an int64 before you multiply.",
        (GemmCase((16,), 16, 16, 1, FAR),),
    ),
)
"""(what a kernel must be able to do, why it may fail, cases), each asking for one thing more than those before."""
