"""A parameter set on its way to a plant, version by version.

    opened -> adapted -> proposed -> in change control -> effective -> concluded
         \\-> refused                                                      (ended from each but refused)

    adapted, proposed, in change control -> adapted, or refused, when the line has changed

The twin adapts a version to a line, or refuses it with every reason. It
proposes set-points; a person accepts them, or keeps the adapted ones, and
either way opens change control. Whoever signed the version at research does not
decide on it for the plant, and whoever recorded its validation does not assess
its filing. The recipe is effective in the commit that records the later of the
two: from then on lots may be made by it. The first lot that is tested concludes it. A version
that was taken back has ended: no lot is started by it any more. One that a
later version took the place of has, too, but where lots are made by it already
the plant goes on with it until the later one is effective. What lots of an
ended version are found to be is recorded all the same, of the version that
made them. Nothing here writes to a plant's control.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import unquote

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain.change_control import check_filing, check_validation
from services.production.domain.record import given
from services.refusals import Absent, Malformed, Refusal

TransferState: TypeAlias = Literal[
    "opened", "adapted", "refused", "proposed", "in_change_control", "effective", "concluded", "ended"
]
#: A lot may be started by a recipe that is in one of these.
_USABLE = ("effective", "concluded")
#: A recipe that is in one of these goes with its line: it is adapted again when that changes.
_OPEN = ("adapted", "proposed", "in_change_control")


@dataclass(frozen=True)
class Attempt:
    """One version of the set at the plant. Each field of bytes keeps the event of that name as it was, of
    proposals the latest one; empty before it happened. `withheld` names what was said not to count for the
    outcome: lot, rule and result."""

    version: int
    run: str
    state: TransferState = "opened"
    adapted: bytes = b""
    refused: bytes = b""
    proposed: bytes = b""
    decided: bytes = b""
    validated: bytes = b""
    filing: bytes = b""
    outcome: bytes = b""
    ended: bytes = b""
    withheld: tuple[str, ...] = ()

    def adaptation(self) -> events.TwinAdapted:
        return events.TwinAdapted.FromString(self.adapted)

    def proposal(self) -> events.OptimisationProposed:
        return events.OptimisationProposed.FromString(self.proposed)

    @property
    def accepted(self) -> bool:
        """Did a person take the proposed set-points?"""
        return bool(self.decided) and events.OptimisationDecided.FromString(self.decided).accepted

    def recipe(self) -> common.Sealed:
        """The recipe that stands: the proposed one where it was accepted, else the adapted one."""
        return self.proposal().recipe if self.accepted else self.adaptation().recipe

    def predictions(self) -> list[events.AttributePrediction]:
        """What is expected of the recipe that stands."""
        return list(self.proposal().predictions if self.accepted else self.adaptation().predictions)


@dataclass(frozen=True)
class Transfer:
    """The versions of a set that came to a plant, the lowest first."""

    transfer: str
    versions: tuple[Attempt, ...] = ()

    def version(self, number: int) -> Attempt | None:
        return next((held for held in self.versions if held.version == number), None)

    @property
    def newest(self) -> Attempt:
        return self.versions[-1]

    @property
    def working(self) -> Attempt | None:
        """The version by whose recipe lots may be started."""
        return next((held for held in reversed(self.versions) if held.state in _USABLE), None)


T = TypeVar("T", bound=Transfer)


def parts_of(transfer: str) -> tuple[str, str]:
    """Parameter set and plant of a transfer's key, "transfer:<set>/<plant>", each part percent-encoded."""
    set, _, plant = transfer.partition(":")[2].partition("/")
    return unquote(set), unquote(plant)


# -- decisions ------------------------------------------------------------


def decide_adapt(
    held: Transfer | None, asked: events.TwinAdapted | events.TransferRefused, line_now: bytes
) -> list[Message]:
    """Take what the twin found: once for a version, again where the line that it was adapted to has changed
    (`line_now` is its version now), and not after a later version was taken."""
    if held is None or held.newest.version < asked.version:
        return [asked]
    found = held.newest
    if found.version != asked.version or not is_outdated(found, line_now):
        return []
    if isinstance(asked, events.TwinAdapted) and asked.line_version == found.adaptation().line_version:
        return []  # by what the line was before
    return [asked]


def is_outdated(held: Attempt, line_now: bytes) -> bool:
    """Was it adapted to a line that has changed, before it became effective?"""
    if held.state not in _OPEN:
        return False
    return held.adaptation().line_version not in (b"", line_now)  # empty: by a build that did not note it


def check_line(held: Attempt, line_now: bytes) -> None:
    """Refusal where the line has changed since the version was adapted to it."""
    if is_outdated(held, line_now):
        said = (
            f"line {held.adaptation().line} changed after version {held.version} was adapted to it; the twin "
            f"adapts it again: look at it with GetTransfer, and decide on the proposal that comes of it"
        )
        raise Refusal("LINE_CHANGED", said, "transfer")


def decide_propose(held: Transfer | None, asked: events.OptimisationProposed) -> list[Message]:
    """Put a proposal before people; a later one takes its place until one is decided. Advice on an earlier
    adaptation, to the line as it was before, comes to nothing."""
    found = held.version(asked.version) if held else None
    if found is None or found.state not in ("adapted", "proposed"):
        return []
    if found.adaptation().line_version != asked.line_version:
        return []
    if found.proposed and found.proposal().proposal == asked.proposal:
        return []
    return [asked]


def decide_sign(
    held: Transfer | None,
    asked: events.OptimisationDecided,
    broken: Iterable[events.TransferRefusal] = (),
    research: Collection[str] = (),
) -> list[Message]:
    """A person accepts the latest proposal, or keeps the adapted recipe.

    `broken` says what speaks against the recipe that would stand, by the ranges and limits as they are
    now: advice may be older than they are. `research` are those who signed the version there.
    """
    found = _known(held).newest
    if not found.proposed or found.state == "ended":
        raise _illegal(found, "decided")
    latest = found.proposal()
    if asked.proposal != latest.proposal:
        said = (
            f"the latest proposal is {latest.proposal!r}; look at it with GetTransfer, and decide about that"
        )
        raise Refusal("NOT_LATEST_PROPOSAL", said, "proposal")
    if found.state != "proposed":
        raise _illegal(found, "decided")
    given(asked.meaning, "meaning", "say what the signature means")
    if not asked.accepted:
        given(asked.reason, "reason", "say why the proposal is refused")
    if asked.actor in research:
        raise _same_signer(asked.actor, "signed the version at research", "decides on it for the plant")
    reasons = [f"{reason.field}: {reason.statement}" for reason in broken]
    if reasons:
        said = f"a range was narrowed since the proposal was made: {'; '.join(reasons)}"
        raise Refusal("RANGE_NARROWED", f"{said}; ask research for a version that fits", "proposal")
    asked.run, asked.version = found.run, found.version
    return [asked]


def decide_validate(held: Transfer | None, asked: events.RecipeValidated) -> list[Message]:
    """Record the validation of a recipe that was decided on; with its filing assessment it is effective."""
    held = _known(held)
    found = _in_change_control(held, asked.version, "validated")
    if found.validated:
        raise _again("validation")
    check_validation(asked)
    if asked.actor == events.RecipeFilingAssessed.FromString(found.filing).actor:
        raise _same_signer(asked.actor, "assessed the filing of the recipe", "records its validation")
    asked.run = found.run
    return [asked, *(_effective(held, found) if found.filing else [])]


def decide_assess_filing(held: Transfer | None, asked: events.RecipeFilingAssessed) -> list[Message]:
    """Record whether a recipe must be filed; with its validation it is effective."""
    held = _known(held)
    found = _in_change_control(held, asked.version, "assessed for filing")
    if found.filing:
        raise _again("filing assessment")
    check_filing(asked)
    if asked.actor == events.RecipeValidated.FromString(found.validated).actor:
        raise _same_signer(asked.actor, "recorded the validation of the recipe", "assesses its filing")
    asked.run = found.run
    return [asked, *(_effective(held, found) if found.validated else [])]


def decide_end(held: Transfer | None, asked: events.TransferEnded) -> list[Message]:
    """End a version, also one that the twin has not seen yet: its run waits for it."""
    found = held.version(asked.version) if held else None
    if found is not None and found.state in ("refused", "ended"):
        return []
    return [asked]


def decide_supersede(held: Transfer | None, asked: events.TransferEnded) -> list[Message]:
    """A later version was released. What lots are made by goes on until the later one is effective."""
    found = held.version(asked.version) if held else None
    if found is not None and found.state in _USABLE:
        return []
    return decide_end(held, asked)


def decide_conclude(held: Transfer | None, asked: events.TransferOutcomeRecorded) -> list[Message]:
    """Record the outcome of a version's first lot, once; also where the version has ended meanwhile."""
    found = held.version(asked.version) if held else None
    if found is None or not _awaits_outcome(found):
        return []
    return [asked]


def decide_withhold(held: Transfer | None, asked: events.TransferOutcomeWithheld) -> list[Message]:
    """Say once of a lot, or a result of it, that it does not count for the outcome that is waited for."""
    found = held.version(asked.version) if held else None
    if found is None or not _awaits_outcome(found) or _withheld(asked) in found.withheld:
        return []
    return [asked]


def usable(held: Transfer | None, product: str) -> int:
    """Version of the effective recipe that a lot of the product may be made by; Refusal where none is."""
    known = _known(held)
    found = known.working
    if found is None:
        now = known.newest
        said = f"version {now.version} is {_words(now.state)}; a lot may be started when it is effective"
        raise Refusal("RECIPE_NOT_EFFECTIVE", said, "transfer")
    made = found.adaptation().product
    if made != product:
        said = f"its recipe is for {made!r}, the lot is of {product!r}; name the transfer of that product"
        raise Refusal("WRONG_PRODUCT", said, "transfer")
    return found.version


def _withheld(told: events.TransferOutcomeWithheld) -> str:
    return "|".join((told.lot, told.rule, told.result))


def _known(held: Transfer | None) -> Transfer:
    if held is None or not held.versions:
        raise Absent("UNKNOWN_TRANSFER", "no such transfer; list them with ListTransfers", "transfer")
    return held


def _awaits_outcome(held: Attempt) -> bool:
    """Nothing is found of it yet. Who asks has a lot that was made by it: it has been effective."""
    return held.state == "effective" or (held.state == "ended" and not held.outcome)


def _in_change_control(held: Transfer, version: int, to: str) -> Attempt:
    found = held.newest
    if not version:
        said = f"name the version whose recipe it is; the newest is {found.version}"
        raise Malformed("REQUIRED", said, "version")
    if version != found.version:
        said = f"version {version} is not the newest one, which is {found.version}"
        raise Refusal("OUTDATED_VERSION", f"{said}; look at that with GetTransfer", "version")
    if found.state != "in_change_control":
        raise _illegal(found, to)
    return found


def _words(state: TransferState) -> str:
    return state.replace("_", " ")


def _illegal(held: Attempt, to: str) -> Refusal:
    needs = "proposed" if to == "decided" else "in change control"
    said = f"version {held.version} is {_words(held.state)} and cannot be {to}; it must be {needs}"
    return Refusal("ILLEGAL_TRANSITION", said, "transfer")


def _same_signer(actor: str, did: str, does: str) -> Refusal:
    return Refusal("SAME_SIGNER", f"{actor} {did}; another person {does}", "actor")


def _again(what: str) -> Refusal:
    return Refusal("ALREADY_RECORDED", f"the {what} is on record; it is not changed", "transfer")


def _effective(held: Transfer, now: Attempt) -> list[Message]:
    """The version is effective; the one by which lots were made until now has ended."""
    adapted, before = now.adaptation(), held.working
    effective = events.RecipeEffective(
        transfer=held.transfer,
        run=now.run,
        set=adapted.set,
        version=now.version,
        plant=adapted.plant,
        line=adapted.line,
        product=adapted.product,
        recipe=now.recipe(),
    )
    if before is None:
        return [effective]
    said = f"version {now.version} took its place, and is effective"
    ended = events.TransferEnded(transfer=held.transfer, run=before.run, version=before.version, reason=said)
    return [effective, ended]


# -- the fold -------------------------------------------------------------


def evolve(held: Transfer | None, event: Message) -> Transfer:
    """The transfer after one of its own events."""
    return changed(held or Transfer(event.transfer), event)  # type: ignore[attr-defined]


def changed(held: T, event: Message) -> T:
    """The transfer, or its row, after one of its events."""
    known: Any = event
    match event:
        case events.OptimisationDecided() | events.RecipeValidated() | events.RecipeFilingAssessed():
            number = known.version or held.newest.version  # 0: by a build that did not name it
        case _:
            number = known.version
    before = held.version(number) or Attempt(number, known.run)
    others = [one for one in held.versions if one.version != number]
    after = sorted([*others, _after(before, event)], key=lambda one: one.version)
    return replace(held, versions=tuple(after))


#: What an event of a version makes of its state (None: nothing), and the field that keeps it ("": none).
_CHANGES: dict[type[Message], tuple[TransferState | None, str]] = {
    events.TwinAdapted: ("adapted", "adapted"),
    events.TransferRefused: ("refused", "refused"),
    events.OptimisationProposed: ("proposed", "proposed"),
    events.OptimisationDecided: ("in_change_control", "decided"),
    events.RecipeValidated: (None, "validated"),
    events.RecipeFilingAssessed: (None, "filing"),
    events.RecipeEffective: ("effective", ""),
    events.TransferOutcomeRecorded: ("concluded", "outcome"),
    events.TransferEnded: ("ended", "ended"),
}


def _after(held: Attempt, event: Message) -> Attempt:
    if isinstance(event, events.TwinAdapted):
        held = Attempt(held.version, held.run)  # what was made of an earlier adaptation is void
    if isinstance(event, events.TransferOutcomeWithheld):
        return replace(held, withheld=(*held.withheld, _withheld(event)))
    state, field = _CHANGES[type(event)]
    if held.state == "ended":
        state = None
    kept = {field: event.SerializeToString(deterministic=True)} if field else {}
    return replace(held, state=state or held.state, **kept)  # type: ignore[arg-type]
