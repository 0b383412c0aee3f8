"""Whole pages: what memory is mapped in."""

from __future__ import annotations


def down(offset: int, unit: int) -> int:
    """The last multiple of `unit` at or before an offset."""
    return offset // unit * unit


def up(offset: int, unit: int) -> int:
    """The first multiple of `unit` at or after an offset."""
    return -(-offset // unit) * unit
