"""Technology transfer: what comes of research and of the loop, what the twin found, what people decide."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from hashlib import sha256
from typing import TypeAlias, cast

from google.protobuf.message import Message

from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.envelope import Event
from services.kit.errors import Retryable
from services.kit.ids import transfer_case
from services.kit.refused import refusals
from services.kit.units import conversion
from services.kit.work import Work, moment_text
from services.production import twins
from services.production.domain import outcome, plant, release
from services.production.domain import transfer as transfers
from services.production.domain.outcome import Results
from services.production.domain.record import Lot
from services.production.domain.release import Calibration, Release
from services.production.domain.transfer import Transfer
from services.production.domain.twin import quantities
from services.production.views import (
    ADAPT_STEP,
    ADVISE_STEP,
    CALIBRATIONS,
    EQUIPMENT,
    LOTS,
    PLANTS,
    PROFILES,
    RELEASES,
    RESULTS,
    SEVERITY_RULES,
    TRANSFERS,
    calibration_id,
    release_id,
)

#: What the end of a version is, by why it comes.
End: TypeAlias = Callable[[Transfer | None, events.TransferEnded], list[Message]]


def _apply(work: Work, transfer: str, decided: list[Message]) -> None:
    """The events of a transfer belong to its case, and each to the run of its version."""
    for event in decided:
        run = cast(events.TwinAdapted, event).run
        work.apply(TRANSFERS, transfer, event, case=transfer, run=run)


# -- what comes of research and of the loop ---------------------------------


def on_parameter_set_released(work: Work, event: Event) -> None:
    told = cast(rnd.ParameterSetReleased, event.message)
    id = release_id(told.set, told.version, told.plant)
    work.put(RELEASES, id, release.released(work.get(RELEASES, id), told))


def on_transfer_run_opened(work: Work, event: Event) -> None:
    """The twin begins; where the version is over already, its run is told so."""
    opened = cast(loops.TransferRunOpened, event.message)
    id = release_id(opened.set, opened.version, opened.plant)
    held = work.require(RELEASES, id)
    if held.run:
        return
    held = release.opened(held, opened.run)
    work.put(RELEASES, id, held)
    if held.over:
        _end(work, held, transfers.decide_end)
    else:
        work.due(ADAPT_STEP, id, work.now)


def on_parameter_set_superseded(work: Work, event: Event) -> None:
    told = cast(rnd.ParameterSetSuperseded, event.message)
    id = release_id(told.set, told.version, told.plant)
    _over(work, id, release.superseded(work.require(RELEASES, id), told), transfers.decide_supersede)


def on_parameter_set_withdrawn(work: Work, event: Event) -> None:
    """One that was never released concerns no plant."""
    told = cast(rnd.ParameterSetWithdrawn, event.message)
    if told.plant:
        id = release_id(told.set, told.version, told.plant)
        _over(work, id, release.withdrawn(work.require(RELEASES, id), told))


def on_loop_closed(work: Work, event: Event) -> None:
    """A person ended the run of a transfer: the plant goes on with nothing of it."""
    ended = cast(loops.LoopClosed, event.message)
    by_hand = (loops.RUN_OUTCOME_CANCELLED, loops.RUN_OUTCOME_SUPERSEDED)
    if ended.loop != "transfer" or ended.outcome not in by_hand or not ended.actor:
        return
    id = release_id(ended.set, ended.version, ended.plant)
    _over(work, id, release.cancelled(work.require(RELEASES, id), ended.actor, ended.reason))


def _over(work: Work, id: str, held: Release, decide: End = transfers.decide_end) -> None:
    work.put(RELEASES, id, held)
    if held.run:
        _end(work, held, decide)
        work.not_due(ADAPT_STEP, id)
        work.not_due(ADVISE_STEP, id)


def _end(work: Work, held: Release, decide: End) -> None:
    told = held.message()
    transfer = transfer_case(told.set, told.plant)
    ended = events.TransferEnded(transfer=transfer, run=held.run, version=told.version, reason=held.over)
    _apply(work, transfer, decide(work.get(TRANSFERS, transfer), ended))


def on_prediction_calibrated(work: Work, event: Event) -> None:
    told = cast(rnd.PredictionCalibrated, event.message)
    kept = Calibration(told.SerializeToString(deterministic=True))
    work.put(CALIBRATIONS, calibration_id(told.plant, told.product), kept)


# -- what the laboratory finds ----------------------------------------------


def on_test_result_recorded(work: Work, event: Event) -> None:
    """A result of a lot that is not known yet waits for it."""
    recorded = cast(events.TestResultRecorded, event.message)
    lot = work.require(LOTS, recorded.lot)
    if lot.transfer:
        held = work.get(RESULTS, lot.lot) or Results(lot.lot)
        at = moment_text(recorded.at.at.ToDatetime(UTC))
        held = outcome.taken(held, recorded, event.id, at)
        work.put(RESULTS, lot.lot, held)
        _conclude(work, lot, held)


def on_investigation_closed(work: Work, event: Event) -> None:
    """A result that was found to stand counts from now on.

    The results are written as they are: who takes one in at the same moment has to look at the lot again.
    """
    closed = cast(events.InvestigationClosed, event.message)
    lot = work.get(LOTS, closed.lot)
    if lot is not None and lot.transfer:
        held = work.get(RESULTS, closed.lot) or Results(lot.lot)
        work.put(RESULTS, lot.lot, held)
        _conclude(work, lot, held)


def _conclude(work: Work, lot: Lot, results: Results) -> None:
    held = work.get(TRANSFERS, lot.transfer)
    found = held.version(lot.transfer_version) if held else None
    if found is None:
        return
    for withheld in outcome.withheld(found, lot, results, _convert):
        withheld.transfer, withheld.run, withheld.version = lot.transfer, found.run, found.version
        told = transfers.decide_withhold(work.get(TRANSFERS, lot.transfer), withheld)
        _apply(work, lot.transfer, told)
    outcomes = outcome.compared(found, lot, results, _convert)
    if outcomes:
        adapted = found.adaptation()
        recorded = events.TransferOutcomeRecorded(
            transfer=lot.transfer,
            run=found.run,
            set=adapted.set,
            version=found.version,
            plant=adapted.plant,
            product=adapted.product,
            lot=lot.lot,
            outcomes=outcomes,
        )
        decided = transfers.decide_conclude(work.get(TRANSFERS, lot.transfer), recorded)
        _apply(work, lot.transfer, decided)


def _convert(value: float, unit: str, to: str) -> float | None:
    """By the platform's units, then by those that a vessel's sheet has; None where both do not convert."""
    by = conversion(unit, to)
    return by(value) if by else quantities.convert(value, unit, to)


# -- what the steps found ----------------------------------------------------


def _stands(work: Work, set: str, version: int, plant: str) -> bool:
    """Is the release not over? Whoever ends it at this moment writes the same transfer: one of the two
    comes first."""
    held = work.get(RELEASES, release_id(set, version, plant))
    return held is not None and not held.over


def adapt_transfer(work: Work, found: events.TwinAdapted) -> events.TwinAdapted:
    """The set fits a line: told, and advice is due, also where it was told before and advice got lost."""
    if _stands(work, found.set, found.version, found.plant):
        held = work.get(TRANSFERS, found.transfer)
        _apply(work, found.transfer, transfers.decide_adapt(held, found, _line_now(work, held)))
        held = work.get(TRANSFERS, found.transfer)
        attempt = held.version(found.version) if held else None
        if attempt is not None and attempt.state == "adapted":
            work.due(ADVISE_STEP, release_id(found.set, found.version, found.plant), work.now)
    return found


def refuse_transfer(work: Work, found: events.TransferRefused) -> events.TransferRefused:
    """The set does not fit: told, with every reason."""
    if _stands(work, found.set, found.version, found.plant):
        held = work.get(TRANSFERS, found.transfer)
        _apply(work, found.transfer, transfers.decide_adapt(held, found, _line_now(work, held)))
    return found


def _line_now(work: Work, held: Transfer | None) -> bytes:
    """What stands for the line that the newest version was adapted to, as it is now; empty where that line
    does not make the product any more, or nothing was adapted."""
    if held is None or not held.newest.adapted:
        return b""
    adapted = held.newest.adaptation()
    known = work.get(PLANTS, adapted.plant)
    line = known.line(adapted.line) if known else None
    told = line.message() if line else events.LineRegistered()
    return plant.line_version(told) if adapted.product in told.products else b""


def propose_optimisation(work: Work, found: events.OptimisationProposed) -> events.OptimisationProposed:
    """The twin's advice, put before people."""
    if _stands(work, found.set, found.version, found.plant):
        decided = transfers.decide_propose(work.get(TRANSFERS, found.transfer), found)
        _apply(work, found.transfer, decided)
    return found


def profile_lot(work: Work, found: events.LotProfiled) -> events.LotProfiled:
    """What a completed lot's run was like, told once."""
    if work.get(PROFILES, found.lot) is None:
        work.apply(PROFILES, found.lot, found)
    return found


# -- what people ask -----------------------------------------------------------


@refusals()
def register_line(work: Work, asked: api.SealedLine) -> api.RegisterLineResponse:
    """What is not effective yet is adapted anew when its line has changed."""
    line = asked.line
    decided = plant.decide_register(
        work.get(PLANTS, line.plant), line, asked.key, work.get(EQUIPMENT, line.equipment)
    )
    for event in decided:
        work.apply(PLANTS, line.plant, event)
    if any(isinstance(event, events.LineRegistered) for event in decided):
        _adapt_anew(work, line.plant)
    return api.RegisterLineResponse()


def _adapt_anew(work: Work, plant: str) -> None:
    """Also what was not adapted before: the twin may be at it, by the line as it was."""
    releases = work.where(RELEASES, "plant", plant).items()
    standing = {id: held for id, held in releases if held.run and not held.over}
    told = {id: held.message() for id, held in standing.items()}
    cases = {id: transfer_case(one.set, one.plant) for id, one in told.items()}
    work.load(TRANSFERS, cases.values())
    for id, case in cases.items():
        held = work.get(TRANSFERS, case)
        found = held.version(told[id].version) if held else None
        if found is None or transfers.is_outdated(found, _line_now(work, held)):
            work.due(ADAPT_STEP, id, work.now)


@refusals()
def decide_transfer(work: Work, opened: api.OpenedDecision) -> api.DecideTransferResponse:
    asked = opened.asked
    held = work.get(TRANSFERS, asked.transfer)
    signed = events.OptimisationDecided(
        transfer=asked.transfer,
        proposal=asked.proposal,
        accepted=asked.accepted,
        reason=asked.reason,
        actor=work.cause.actor,
        meaning=asked.meaning,
    )
    research = _research(work, held)
    transfers.decide_sign(held, signed, research=research)
    _check_line(work, held)
    decided = transfers.decide_sign(held, signed, _broken(work, held, opened), research)
    _apply(work, asked.transfer, decided)
    return api.DecideTransferResponse()


def _research(work: Work, held: Transfer | None) -> tuple[str, ...]:
    """Who reviewed and released the newest version."""
    if held is None:
        return ()
    set, plant = transfers.parts_of(held.transfer)
    found = work.get(RELEASES, release_id(set, held.newest.version, plant))
    told = found.message() if found else rnd.ParameterSetReleased()
    return tuple(filter(None, (told.reviewer, told.actor)))


def _check_line(work: Work, held: Transfer | None) -> None:
    assert held is not None, "decided on before"
    transfers.check_line(held.newest, _line_now(work, held))


def _broken(work: Work, held: Transfer | None, opened: api.OpenedDecision) -> list[events.TransferRefusal]:
    """What speaks against the recipe by the line and the product's proven ranges as they are now."""
    assert held is not None, "opened with its line"
    adapted = held.newest.adaptation()
    known = work.get(PLANTS, adapted.plant)
    line = known.line(adapted.line) if known else None
    if line is None or sha256(line.message().detail.ciphertext).digest() != opened.detail_hash:
        raise Retryable("the proposal or its line changed at this moment; send the same request again")
    rules = work.get(SEVERITY_RULES, adapted.product)
    return [
        *twins.beyond_line(opened.recipe, opened.detail),
        *twins.beyond_ranges(opened.recipe, rules.message().rules if rules else ()),
    ]


@refusals()
def record_recipe_validation(
    work: Work, request: api.RecordRecipeValidationRequest
) -> api.RecordRecipeValidationResponse:
    asked = events.RecipeValidated(
        transfer=request.transfer,
        record=request.record,
        statement=request.statement,
        actor=work.cause.actor,
        version=request.version,
    )
    held = work.get(TRANSFERS, request.transfer)
    decided = transfers.decide_validate(held, asked)
    _check_line(work, held)
    _apply(work, request.transfer, decided)
    return api.RecordRecipeValidationResponse()


@refusals()
def record_recipe_filing(
    work: Work, request: api.RecordRecipeFilingRequest
) -> api.RecordRecipeFilingResponse:
    asked = events.RecipeFilingAssessed(
        transfer=request.transfer,
        category=request.category,
        reference=request.reference,
        statement=request.statement,
        actor=work.cause.actor,
        version=request.version,
    )
    held = work.get(TRANSFERS, request.transfer)
    decided = transfers.decide_assess_filing(held, asked)
    _check_line(work, held)
    _apply(work, request.transfer, decided)
    return api.RecordRecipeFilingResponse()
