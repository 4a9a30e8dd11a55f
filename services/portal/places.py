"""Where the things of a lineage have their pages."""

from __future__ import annotations

from typing import Any

from services.portal.addresses import path_of as path

_PAGES = {"lot": "lots", "run": "runs", "capa": "capas", "transfer": "transfers", "study": "studies"}


def place(kind: str, id: str, lot: str = "") -> str:
    """The page of a thing; one that has none leads to its own lineage. A deviation's page needs its `lot`."""
    if kind in _PAGES:
        return path(_PAGES[kind], id)
    if kind == "deviation" and lot:
        return path("deviations", lot, id)
    return path("lineage", id)


def case_place(case: str) -> str:
    """The page of a run's case: a transfer, a study, or a lot."""
    kind, _, rest = case.partition(":")
    if kind == "transfer":
        return path("transfers", case)
    return path("studies", rest) if kind == "study" else path("lots", case)


def lot_of(hop: Any) -> str:
    """The lot that a hop comes from."""
    return next((one.id for one in hop.comes_from if one.kind == "lot"), "")


def short(id: str) -> str:
    """An id as a drawing has room for it: the end of a key, the beginning of a random one."""
    last = id.rpartition("/")[2]
    return last if last != id else (id[:8] if len(id) >= 32 else id[:24])


def event_word(type: str) -> str:
    """The key of an event's word: its short name."""
    return type.rpartition(".")[2]
