"""Lots around a lot, by kind and by a part of their key. A kind is a lot's key without its own number.

What a node holds is sorted, so the lots of a kind stand together: of a hundred thousand few are looked at.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from urllib.parse import unquote


def kinds(lots: Sequence[str]) -> list[tuple[str, int]]:
    """Every kind among the lots (sorted) with how many there are, by name."""
    found, first = [], 0
    while first < len(lots):
        kind = lots[first].rpartition("/")[0]
        _, end = _range(lots, kind)
        found.append((kind, end - first))
        first = end
    return found


def part(lots: Sequence[str], kind: str, begin: str, most: int) -> tuple[list[str], int, str]:
    """Lots (sorted) of a kind from `begin` on, how many are before them, and the next one (else empty)."""
    start, end = _range(lots, kind)
    first = min(max(start, bisect_left(lots, begin)), end)
    last = min(first + most, end)
    return list(lots[first:last]), first - start, lots[last] if last < end else ""


def among(lots: Sequence[str], lot: str) -> bool:
    """Is the lot one of the lots (sorted)?"""
    place = bisect_left(lots, lot)
    return place < len(lots) and lots[place] == lot


def _range(lots: Sequence[str], kind: str) -> tuple[int, int]:
    """Where the lots of a kind begin and end: "0" is what follows on "/"."""
    return bisect_left(lots, f"{kind}/"), bisect_left(lots, f"{kind}0")


def matches(lot: str, text: str) -> bool:
    """Is the text a part of the key, as it is written or as people read it? `text` is casefolded."""
    return text in lot.casefold() or ("%" in lot and text in unquote(lot).casefold())


def way(parents: Mapping[str, str], lot: str) -> list[str]:
    """From where a walk began to the lot; `parents` says from which lot each was reached first."""
    found = [lot]
    while (before := parents.get(found[-1])) is not None:
        found.append(before)
    return found[::-1]
