"""Which process speaks for which hospital, by the names under which processes are known."""

from __future__ import annotations

from collections.abc import Iterable

CLINICAL = "clinical"
#: The installation's first hospital where PHARMALOOP_SITES names none.
FIRST = "hospital-a"


def processes(names: Iterable[str], first: str) -> dict[str, str]:
    """By hospital, the clinical process that speaks for it.

    The one called clinical alone is that of the installation's first hospital,
    unless this has an entry under its own name: {"hospital-a": "clinical",
    "hospital-b": "clinical.hospital-b"}.
    """
    clinical = sorted(name for name in names if name.partition(".")[0] == CLINICAL)
    return dict(sorted((name.partition(".")[2] or first, name) for name in clinical))


def unknown(hospital: str, known: Iterable[str]) -> str:
    """That a hospital is none of those here, and which these are."""
    return f"there is no hospital {hospital!r} here; known: {', '.join(sorted(known)) or 'none'}"
