"""How far a run's exposure protocol has come: watches, cuts, the asked seal.

A watch that is committed is seen by everything folded later; what was folded
while it was being committed is found by reading again, once the fold has
passed a cut that was noted after the commit. A lot is *firm* when that was
done. Watches stand in the order in which they were set, so a cut covers a
lot exactly when its watch stood before the cut's offsets were read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Watch:
    """A watched lot: its steps of material from the root."""

    lot: str
    depth: int
    firm: bool = False


@dataclass(frozen=True)
class Place:
    """The end of one partition when a cut was noted."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Run:
    """A run of the safety loop, as the trace works on it.

    `round` counts the cuts noted, `passed` those passed and walked; `covers`
    is how many watches the newest cut covers, `cut_asked` the seal that was
    asked for when it was noted. `again`: what was folded for it may be missing
    in its journal, for the database was set back; all its lots are read again,
    and until then nothing joins. `extended` is the newest version whose seal
    was asked for, and which had grown.
    """

    run: str
    case: str
    root: str
    follows: str
    trace: str
    watches: tuple[Watch, ...]
    round: int = 0
    passed: int = 0
    covers: int = 0
    cut: tuple[Place, ...] = ()
    asked: int = 0
    cut_asked: int = 0
    sealed: bool = False
    cancelled: bool = False
    again: bool = False
    extended: int = 0

    @property
    def lots(self) -> dict[str, int]:
        """The watched lots with their depths."""
        return {watch.lot: watch.depth for watch in self.watches}

    @property
    def not_firm(self) -> tuple[str, ...]:
        return tuple(watch.lot for watch in self.watches if not watch.firm)

    @property
    def phase(self) -> str:
        if self.sealed:
            return "sealed"
        if self.cancelled:
            return "cancelled"
        if self.passed == 0:
            return "watching"
        if self.asked:
            return "sealing"
        return "walking" if self.not_firm else "open"

    @property
    def at_rest(self) -> bool:
        """Is there nothing to do until something is folded?"""
        return self.cancelled or (self.phase in ("open", "sealed") and not self.again)

    @property
    def over(self) -> bool:
        """Does nothing join it any more?"""
        return self.sealed or self.cancelled

    @property
    def cut_is_open(self) -> bool:
        return self.round > self.passed

    @property
    def may_seal(self) -> bool:
        """Was a cut noted after the seal was asked for, and passed, and is every lot firm?"""
        asked = bool(self.asked) and self.cut_asked == self.asked
        return asked and not (self.over or self.again or self.cut_is_open or self.not_firm)


def opened(run: str, case: str, root: str, follows: str, trace: str) -> Run:
    """A new run, watching its root."""
    return Run(run, case, root, follows, trace, (Watch(root, 0),))


def watching(run: Run, found: Iterable[Watch]) -> Run:
    """The run with watches on more lots."""
    known = run.lots
    return replace(run, watches=run.watches + tuple(watch for watch in found if watch.lot not in known))


def asking(run: Run, version: int) -> Run:
    """The run with a seal asked for; the newest request counts, and none that was answered."""
    return run if run.over or version <= run.extended else replace(run, asked=version)


def ended(run: Run) -> Run:
    """The run after a person ended it before its seal; one that is sealed stays what it is."""
    return run if run.sealed else replace(run, cancelled=True)


def noted(run: Run, round: int, covers: int, asked: int, cut: tuple[Place, ...]) -> Run:
    """The run with a new cut; unchanged when it is not the next one."""
    if run.over or run.cut_is_open or round != run.round + 1:
        return run
    return replace(run, round=round, covers=covers, cut_asked=asked, cut=cut)


def walked(run: Run) -> Run:
    """The run after its cut was passed and its lots were read again."""
    watches = tuple(
        replace(watch, firm=True) if number < run.covers and not watch.firm else watch
        for number, watch in enumerate(run.watches)
    )
    return replace(run, passed=run.round, watches=watches)


def answered(run: Run, sealed: bool) -> Run:
    """The run after its asked seal was answered."""
    return replace(run, asked=0, sealed=sealed)


# -- a database that was set back --------------------------------------------


def going_over(run: Run) -> Run:
    """The run whose lots are all to be read again; no cut of before makes one of them firm."""
    if run.over:
        return replace(run, again=run.sealed)
    watches = tuple(replace(watch, firm=False) for watch in run.watches)
    return replace(run, again=True, watches=watches, covers=0, cut_asked=0)


def gone_over(run: Run) -> Run:
    """The sealed run after its lots were read again. Each was firm when it was sealed."""
    watches = tuple(replace(watch, firm=True) for watch in run.watches)
    return replace(run, again=False, watches=watches, round=run.round + 1, passed=run.round + 1)


def has_extended(run: Run, version: int) -> Run:
    """The run whose seal was asked for at a version, and refused, for it had grown."""
    asked = 0 if run.asked <= version else run.asked
    return replace(run, asked=asked, extended=max(run.extended, version))
