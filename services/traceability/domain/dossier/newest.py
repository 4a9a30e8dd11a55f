"""What was decided, as a dossier keeps it: the newest, and how many older ones are left out."""

from __future__ import annotations

from dataclasses import dataclass

#: So many are kept of each kind for a lot or a run.
KEPT = 100


@dataclass(frozen=True)
class Decided:
    """A decision or a change. `id` is its event's; moments are ISO text."""

    at: str
    id: str
    what: str
    who: str = ""
    why: str = ""
    meaning: str = ""
    run: str = ""
    subject: str = ""
    #: `why` in parts, where no person wrote it: the bytes of each Saying.
    sayings: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Newest:
    """The newest of one source, in the order in which it told them."""

    items: tuple[Decided, ...] = ()
    left_out: int = 0

    def then(self, decided: Decided) -> Newest:
        items = (*self.items, decided)
        over = max(0, len(items) - KEPT)
        return Newest(items[over:], self.left_out + over)


NONE = Newest()


def in_order(*items: Decided) -> list[Decided]:
    """By time, then by id: the same whatever came first."""
    return sorted(items, key=lambda one: (one.at, one.id))
