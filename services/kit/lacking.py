"""What a run lacks, site by site: who has not confirmed, where plans wait, whose yes is missing.

One rule for the portal and the command. A safety run's stages wait for every site of its journal, and each
site's board says what it has done; a study waits for owners. Boards are read by the names of their fields.
A corrective action waits for its approval, then for its change control.
How many people wait at a site is told as `small_groups` allows, and only where the trace tells of every
site how many patients it has (decision 21): what one page withholds follows from no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.kit import small_groups

#: Why a site is among them.
AWAY, NOTHING, DIGEST, PLANS, DIFFERENCES, NOTICES, ANSWERS, APPROVAL = (
    "away",
    "nothing",
    "digest",
    "plans",
    "differences",
    "notices",
    "answers",
    "approval",
)
#: By stage of a safety run what a site may lack in it, the first of which is said.
STAGES = {
    "receive": (DIGEST,),
    "plan": (DIGEST, PLANS),
    "seal": (DIGEST, DIFFERENCES, PLANS),
    "notify": (NOTICES,),
    "respond": (ANSWERS,),
}
#: Stages of a patient's plan in which it is still to come.
_TO_COME = ("pending", "waiting")


@dataclass(frozen=True)
class Lack:
    """A site, and what it has not done. `people`: how many wait there (of differences, dispenses); None where
    nobody is counted, or the number is withheld."""

    site: str
    why: str
    people: int | None = None
    withheld: bool = False


def of_run(
    stage: str, boards: Mapping[str, Any], away: Iterable[str], *, told: bool, follows: bool = False
) -> list[Lack]:
    """The sites that a safety run waits for in a stage, by name.

    `boards` has each site of the run with its board, None where it holds nothing of the run; `away` are those
    that do not answer. `told`: does the trace tell how many patients each site has? A run that `follows` an
    earlier one waits for no difference.
    """
    whys = [why for why in STAGES.get(stage, ()) if not (follows and why == DIFFERENCES)]
    if not whys:
        return []
    away = set(away)
    known = {site: board for site, board in boards.items() if board is not None and site not in away}
    public = told and not away and len(known) == len(boards)
    found = []
    for site in sorted({*boards, *away}):
        if site in away:
            found.append(Lack(site, AWAY))
        elif site not in known:
            found.append(Lack(site, NOTHING))
        else:
            why = next((why for why in whys if _lacks(known[site], why)), "")
            if why:
                found.append(_counted(site, why, known, public))
    return found


def of_study(sites: Iterable[str], approved: Iterable[str]) -> list[Lack]:
    """The sites whose owner has not said yes to a study."""
    signed = set(approved)
    return [Lack(site, APPROVAL) for site in sorted(sites) if site not in signed]


@dataclass(frozen=True)
class Control:
    """A corrective action on its way: who approved it ("" while nobody has), and the steps that it still
    needs, of "approve", "validate" and "file"; none where its change is in force, or it was `refused`."""

    capa: str
    by: str
    steps: tuple[str, ...]
    refused: bool = False


#: What an approved corrective action needs before its change is in force, and what of it is then on record.
_CHANGE_CONTROL = (("validate", "validated"), ("file", "filing"))


def of_capas(rows: Iterable[Any]) -> Control | None:
    """What a run's corrective action lacks; `rows` as production lists those of the run, newest first."""
    for row in rows:
        if row.HasField("refused"):
            return Control(row.proposed.capa, "", (), refused=True)
        steps = tuple(step for step, on_record in _CHANGE_CONTROL if not row.HasField(on_record))
        return Control(row.proposed.capa, row.actor, steps if row.actor else ("approve",))
    return None


def _lacks(board: Any, why: str) -> bool:
    return not board.acknowledged if why == DIGEST else sum(_COUNTS[why](board)[: _OWN[why]]) > 0


def _counted(site: str, why: str, boards: Mapping[str, Any], public: bool) -> Lack:
    if why == DIGEST:
        return Lack(site, why)
    kinds = small_groups.told({name: {why: _groups(board, why)} for name, board in boards.items()})
    if not public or why not in kinds:
        return Lack(site, why, withheld=True)
    return Lack(site, why, sum(_COUNTS[why](boards[site])[: _OWN[why]]))


def _plans(board: Any) -> Sequence[int]:
    return (sum(board.patients.get(stage, 0) for stage in _TO_COME),)


#: What a board counts of it, and beside it what splits the same people.
_COUNTS: dict[str, Callable[[Any], Sequence[int]]] = {
    PLANS: _plans,
    DIFFERENCES: lambda board: (board.only_in_trace, board.only_at_site),
    NOTICES: lambda board: (board.notices_owed, board.notified, board.unreachable),
    ANSWERS: lambda board: (board.awaited, board.answered),
}
#: How many of these are what is lacking.
_OWN = {PLANS: 1, DIFFERENCES: 2, NOTICES: 1, ANSWERS: 1}


def _groups(board: Any, why: str) -> list[int]:
    """The groups that follow from the count: its parts, and how the site's patients are split otherwise."""
    others = [count for stage, count in board.patients.items() if stage not in _TO_COME]
    return [*_COUNTS[why](board), *others]


def published(exposure: Any) -> bool:
    """Does the trace tell of every site of a run's journal (GetExposure) how many patients it has?"""
    if exposure is None:
        return False
    told = {one.site for one in exposure.sites if one.told and not one.people.patients.withheld}
    return set(exposure.announced.sites) <= told
