"""Headers as people write them, compared: the same word in other letters, and a unit at the end."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from services.cli.feed.units import is_unit, unit_of
from services.cli.session import Failure

_WITH_UNIT = re.compile(r"(.*\S)\s*[\[(（]\s*([^\s()（）]+?)\s*[\])）]")
_BETWEEN = re.compile(r"[\s_.\-]+")


def plain(header: str) -> str:
    """A header as it is compared: compatible letters, no case, no blanks, no marks between words."""
    return _BETWEEN.sub("", unicodedata.normalize("NFKC", header).casefold())


def split_unit(header: str) -> tuple[str, str]:
    """A header without the unit at its end ("quantity (mg)"), and the unit; empty where it has none."""
    found = _WITH_UNIT.fullmatch(header)
    if not found or not is_unit(found[2]):
        return header, ""
    return found[1], unit_of(found[2])


def place_of(header: str, headers: Sequence[str]) -> int:
    """The place of a header that the mapping names; Failure where the table has none of it."""
    if header in headers:
        return headers.index(header)
    alike = [place for place, found in enumerate(headers) if plain(found) == plain(header)]
    if len(alike) == 1:
        return alike[0]
    raise Failure(f"the mapping names the header {header!r}; the headers are: {shown(headers)}")


def shown(headers: Sequence[str]) -> str:
    return ", ".join(header or "(empty)" for header in headers)
