"""What production does by itself: brings releases to lines, works out advice, profiles completed lots.

Each step reads what is held and ends by submitting a command, named after what
it rests on; the command looks again, so that doing a step twice has one
effect. The twin runs in a child process. No step writes to a plant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from services.kit.app import App
from services.kit.bus.protocol import Log, Partition
from services.kit.contracts import event_type
from services.kit.ids import derived_id, transfer_case
from services.kit.offload import Offload
from services.kit.runners.step import Again, StepFunction
from services.kit.store.protocol import AsyncStore
from services.kit.work import Step
from services.production import twins
from services.production.domain import profile
from services.production.domain.plant import line_version
from services.production.domain.release import Release
from services.production.domain.samples import Run
from services.production.domain.transfer import is_outdated
from services.production.payloads import NOT_OURS, NotOurs, Payloads
from services.production.twins import Adapted, Advice, Place, Refusals
from services.production.views import (
    ADAPT_STEP,
    ADVISE_STEP,
    CALIBRATIONS,
    LOTS,
    PLANTS,
    PROFILE_STEP,
    PROFILES,
    RELEASES,
    RUNS,
    SEVERITY_RULES,
    TRANSFERS,
    calibration_id,
)

#: The projector that keeps the recorded runs.
HISTORY = "production.history"
#: Nobody waits for a profile: many lots may be completed while the readings are far behind.
_FOLDING_SECONDS = 1.0

#: Submits a command: method, request, request id.
Submit = Callable[[str, Message, str], Awaitable[object]]
Adapt = Callable[[sets.ParameterSetContent, Place, int], Adapted | Refusals]
Advise = Callable[
    [sets.ParameterSetContent, Place, events.RecipeDetail, Iterable[events.AttributePrediction], int], Advice
]


#: Runs a function beside the event loop.
Beside = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Twin:
    """What the steps ask of the twin."""

    adapt: Adapt = twins.adapt
    advise: Advise = twins.advise


class Steps:
    """The steps of the service."""

    def __init__(
        self,
        store: AsyncStore,
        payloads: Payloads,
        submit: Submit,
        log: Log,
        folded_to: Callable[[], Awaitable[dict[Partition, int]]],
        readings: str,
        twin: Twin | None = None,
        adapting: Beside = asyncio.to_thread,
        advising: Beside = asyncio.to_thread,
    ) -> None:
        """`folded_to` says where the recorded runs stand, `readings` is the topic that they are made of.
        The twin is asked beside the event loop: `adapting` and `advising` run what they are given."""
        self._store = store
        self._payloads = payloads
        self._submit = submit
        self._log = log
        self._folded_to = folded_to
        self._readings = readings
        self._twin = twin or Twin()
        self._adapting, self._advising = adapting, advising

    def all(self) -> Mapping[str, StepFunction]:
        return {ADAPT_STEP: self.adapt, ADVISE_STEP: self.advise, PROFILE_STEP: self.profile}

    # -- transfers ----------------------------------------------------------

    async def adapt(self, step: Step) -> None:
        """Bring a release to the first of the plant's lines that it fits, by their names."""
        held = await self._standing(step.key)
        if held is None:
            return
        told = held.message()
        transfer = transfer_case(told.set, told.plant)
        plant = await self._store.get(PLANTS, told.plant)
        lines = plant.state.making(told.product) if plant else []
        # What is found rests on these: of other ones it is another request.
        basis = sha256(b"".join(map(line_version, lines))).hexdigest()
        found = await self._fitted(held, lines)
        if isinstance(found, Refusals):
            refused = events.TransferRefused(
                transfer=transfer,
                run=held.run,
                set=told.set,
                version=told.version,
                plant=told.plant,
                reasons=found.reasons,
            )
            await self._submit("RefuseTransfer", refused, f"refuse/{step.key}/{held.run}/{basis}")
            return
        line, fitted = found
        adapted = events.TwinAdapted(
            transfer=transfer,
            run=held.run,
            set=told.set,
            version=told.version,
            plant=told.plant,
            line=line.line,
            product=told.product,
            gaps=fitted.gaps,
            predictions=fitted.predictions,
            recipe=self._payloads.keep(fitted.recipe, told.plant),
            content_hash=told.content_hash,
            model=fitted.model,
            not_modelled=fitted.not_modelled,
            line_version=line_version(line),
            equipment=line.equipment,
        )
        await self._submit("AdaptTransfer", adapted, f"adapt/{step.key}/{held.run}/{basis}")

    async def _standing(self, key: str) -> Release | None:
        """The release, unless it is over."""
        found = await self._store.get(RELEASES, key)
        return None if found is None or found.state.over else found.state

    async def _fitted(
        self, held: Release, lines: list[events.LineRegistered]
    ) -> tuple[events.LineRegistered, Adapted] | Refusals:
        """The line and what the twin made of the set there; or what speaks against every line."""
        told = held.message()
        try:
            content = self._payloads.open(told)
        except NotOurs as error:
            said = f"the payload is not for this plant, or was altered: {error}; release it again"
            return Refusals((events.TransferRefusal(rule=NOT_OURS, field="payload", statement=said),))
        if not lines:
            said = f"no line of {told.plant} makes {told.product}; register one with RegisterLine"
            return Refusals((events.TransferRefusal(rule="NO_LINE", field="plant", statement=said),))
        reasons: list[events.TransferRefusal] = []
        for line in lines:
            seed = seed_of(told.set, told.version, told.plant)
            place = await self._place(line, told.product)
            found = await self._adapting(self._twin.adapt, content, place, seed)
            if isinstance(found, Adapted):
                return line, found
            reasons += (_at(line.line, reason, len(lines) > 1) for reason in found.reasons)
        return Refusals(tuple(reasons))

    async def _place(self, line: events.LineRegistered, product: str) -> Place:
        """The line as the twin takes it, with what the plant knows of the product by now."""
        calibration = await self._store.get(CALIBRATIONS, calibration_id(line.plant, product))
        rules = await self._store.get(SEVERITY_RULES, product)
        return Place(
            line=line.line,
            detail=self._payloads.kept(line.detail, events.LineDetail),
            rules=tuple(rules.state.message().rules) if rules else (),
            calibrations=calibration.state.by_attribute() if calibration else {},
        )

    async def advise(self, step: Step) -> None:
        """Work out set-points for what was adapted."""
        held = await self._standing(step.key)
        if held is None:
            return
        told = held.message()
        transfer = transfer_case(told.set, told.plant)
        found = await self._store.get(TRANSFERS, transfer)
        attempt = found.state.version(told.version) if found else None
        plant = await self._store.get(PLANTS, told.plant)
        if attempt is None or not attempt.adapted or plant is None:
            return
        adapted = attempt.adaptation()
        line = plant.state.line(adapted.line)
        assert line is not None, "a line is never forgotten"
        if is_outdated(attempt, line_version(line.message())):
            return  # it is adapted again, and advised then
        advice: Advice = await self._advising(
            self._twin.advise,
            self._payloads.open(told),
            await self._place(line.message(), told.product),
            self._payloads.kept(adapted.recipe, events.RecipeDetail),
            list(adapted.predictions),
            seed_of(told.set, told.version, told.plant),
        )
        proposal = derived_id("proposal", transfer, str(told.version), adapted.line_version.hex())
        proposed = events.OptimisationProposed(
            transfer=transfer,
            run=held.run,
            proposal=proposal,
            set=told.set,
            version=told.version,
            plant=told.plant,
            line=adapted.line,
            basis=advice.basis,
            moved=advice.moved,
            attribute=advice.attribute,
            gain=advice.gain,
            predictions=advice.predictions,
            recipe=self._payloads.keep(advice.recipe, told.plant),
            line_version=adapted.line_version,
        )
        await self._submit("ProposeOptimisation", proposed, f"propose/{proposal}")

    # -- lots -----------------------------------------------------------------

    async def profile(self, step: Step) -> Again | None:
        """Tell a completed lot's profile once all readings are folded that were recorded before.

        The ends of the readings are noted when the step first runs, which is after the lot was
        completed; what is recorded later has no part in the profile's being due.
        """
        if await self._store.get(PROFILES, step.key) is not None:
            return None
        if "cut" not in step.payload:
            ends = await asyncio.to_thread(self._log.ends, [self._readings])
            cut = ",".join(f"{place.number}:{end}" for place, end in sorted(ends.items()) if end)
            return Again(0.0, {"cut": cut})
        folded = await self._folded_to()
        for place in filter(None, step.payload["cut"].split(",")):
            number, end = map(int, place.split(":"))
            if folded.get(Partition(self._readings, number), 0) < end:
                return Again(_FOLDING_SECONDS)
        lot = await self._store.get(LOTS, step.key)
        run = await self._run(step.key, lot.state.equipment) if lot else None
        if lot is None or run is None:
            return None
        told = profile.of_run(run, lot.state.product)
        if told.parameters:
            await self._submit("ProfileLot", told, f"profile/{step.key}")
        return None

    async def _run(self, lot: str, equipment: str) -> Run | None:
        """The recorded run on the lot's own equipment."""
        runs = [item.state for item in await self._store.where(RUNS, "lot", lot)]
        return next((run for run in runs if run.equipment == equipment), None)


def seed_of(set: str, version: int, plant: str) -> int:
    """Seed of a version's draws at a plant: a step that is repeated finds the same."""
    return int.from_bytes(sha256(f"{set}|{version}|{plant}".encode()).digest()[:4])


def _at(line: str, reason: events.TransferRefusal, named: bool) -> events.TransferRefusal:
    """The reason, with the line that it speaks of where there are several."""
    if not named:
        return reason
    said = f"line {line}: {reason.statement}"
    return events.TransferRefusal(rule=reason.rule, field=reason.field, statement=said)


def steps(app: App, payloads: Payloads) -> Mapping[str, StepFunction]:
    """The steps on a running service."""

    async def submit(method: str, request: Message, request_id: str) -> object:
        return await app.decider.submit(method, request, request_id=request_id, actor="platform")

    # Two of them: a release is brought to its line in a fraction of a second, advice takes some seconds.
    adapting, advising = Offload("adapting"), Offload("advising")
    app.leaving += [adapting.close, advising.close]
    adapting.begin(twins.load)
    (readings,) = app.contract.names_for([event_type(events.ReadingsRecorded)])
    made = Steps(
        app.store,
        payloads,
        submit,
        app.bus.log(),
        lambda: app.positions.of(HISTORY),
        readings,
        adapting=adapting.run,
        advising=advising.run,
    )
    return made.all()
