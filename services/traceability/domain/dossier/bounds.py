"""How much of each a dossier shows; what is left out is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
LOTS, PLACES, FINDINGS, SITES, RUNS, DECISIONS = 100, 50, 100, 50, 10, 100


def first(items: Sequence[T], most: int) -> tuple[Sequence[T], int]:
    """The first of them, and how many are left out."""
    return items[:most], max(0, len(items) - most)
