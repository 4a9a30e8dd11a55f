"""What research, a plant's manager and its laboratory do in the transfer loop, as calls of the API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pharmaloop.loops.v1 import service_pb2 as loops_api
from pharmaloop.loops.v1.events_pb2 import LoopClosed
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.production.v1 import service_pb2 as production_api
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from pharmaloop.rnd.v1 import service_pb2 as rnd_api
from services.loops.views import RUNS
from services.production.domain.transfer import Attempt
from services.production.views import EQUIPMENT, LOTS, TRANSFERS
from services.rnd.views import PLANT_KEYS, PRODUCTS
from tests.reliability.sim.clockwork import START
from tests.reliability.sim.inputs import Input, Ready
from tests.reliability.sim.tale import BROTH, FERMENTER, LINE, PLANT, Tale, Transfer, Version
from tests.reliability.sim.twin import UNFIT
from tests.unit.production.transfer_story import VESSEL
from tests.unit.rnd.penicillin import limits, says

if TYPE_CHECKING:
    from tests.reliability.sim.world import World

_PATHS = ("concluded", "kept", "off", "overtaken")
#: How people's calls are refused when research took a version back at the same moment.
_LATE = (
    *("ILLEGAL_TRANSITION", "NOT_LATEST_PROPOSAL", "ALREADY_RECORDED"),
    *("RECIPE_NOT_EFFECTIVE", "OUTDATED_VERSION"),
)


def _late(transfer: Transfer) -> tuple[str, ...]:
    """Nobody waits for who overtakes; a person's call may then also meet a later version."""
    return _LATE if any(one.fate == "overtaken" for one in transfer.versions) else ()


def done(world: World, label: str) -> bool:
    """Was the call acknowledged, and not refused?"""
    call = world.inputs.get(label)
    return call is not None and call.answer is not None and not call.refused


# -- what is told whatever the platform answers -------------------------------------


def told(tale: Tale) -> Iterator[Input]:
    """A plant registers its line, research what the sets are of."""
    if not tale.transfers:
        return
    register = production_api.RegisterEquipmentRequest(equipment=FERMENTER, plant=PLANT)
    register.tags.add(name="DO", unit="%")
    yield Input("fermenter", "production", "RegisterEquipment", register)
    line = production_api.RegisterLineRequest(
        plant=PLANT,
        line=LINE,
        equipment=FERMENTER,
        products=[BROTH],
        detail=production.LineDetail(**VESSEL),
    )
    yield Input("line", "production", "RegisterLine", line, ready=_equipped, actor="manager")
    yield product(BROTH, "broth")


def _equipped(world: World) -> bool:
    return FERMENTER in world.databases["production"].states(EQUIPMENT)


def product(key: str, name: str, ready: Ready = lambda world: True) -> Input:
    """Research registers a product."""
    request = rnd_api.RegisterProductRequest(product=key, name=name, indication="fever")
    return Input(f"product {name}", "rnd", "RegisterProduct", request, ready=ready, actor="chemist")


# -- what people do about what they see ----------------------------------------------


def reactions(world: World) -> Iterator[Input]:
    for transfer in world.tale.transfers:
        for version in transfer.versions:
            yield from _at_research(world, transfer, version)
            if done(world, f"release {transfer.set} {version.number}"):
                yield from _ended(world, transfer, version)
                yield from _at_plant(world, transfer, version)


def attempt(world: World, transfer: Transfer, number: int) -> Attempt | None:
    """The version as the plant knows it."""
    held = world.databases["production"].states(TRANSFERS).get(transfer.case)
    return held.version(number) if held else None


def _state(world: World, transfer: Transfer, number: int) -> str:
    found = attempt(world, transfer, number)
    return found.state if found else ""


def _at_research(world: World, transfer: Transfer, version: Version) -> Iterator[Input]:
    """Drafted, reviewed and released by three people, one after the other."""
    name = f"{transfer.set} {version.number}"
    known = world.databases["rnd"]
    if not _is_wanted(world, transfer, version) or BROTH not in known.states(PRODUCTS):
        return
    draft = rnd_api.DraftParameterSetRequest(set=transfer.set, content=_content(version))
    yield Input(f"draft {name}", "rnd", "DraftParameterSet", draft, 1, actor="ada")
    about: dict[str, Any] = {"set": transfer.set, "version": version.number}
    if done(world, f"draft {name}"):
        review = rnd_api.ReviewParameterSetRequest(**about, meaning="I have read it.")
        yield Input(f"review {name}", "rnd", "ReviewParameterSet", review, 1, actor="ben")
    if done(world, f"review {name}") and PLANT in known.states(PLANT_KEYS):
        release = rnd_api.ReleaseParameterSetRequest(**about, plants=[PLANT], meaning="For use.")
        yield Input(f"release {name}", "rnd", "ReleaseParameterSet", release, 1, actor="cy")


def _is_wanted(world: World, transfer: Transfer, version: Version) -> bool:
    """A later version is wanted when the one before has met its fate."""
    if version.number == 1:
        return True
    before = transfer.versions[version.number - 2]
    match before.fate:
        case "superseded":
            return _state(world, transfer, before.number) in (before.at, "ended")
        case "refused":
            return _is_closed(world, transfer, before.number)  # else the later one may overtake it
        case _:
            return done(world, f"withdraw {transfer.set} {before.number}")


def _is_closed(world: World, transfer: Transfer, number: int) -> bool:
    """Does research see that the run of the version has ended?"""
    runs = [run for run in world.databases["loops"].states(RUNS).values() if run.case == transfer.case]
    return any(run.closed and LoopClosed.FromString(run.closed).version == number for run in runs)


def _content(version: Version) -> sets.ParameterSetContent:
    attributes = [
        sets.QualityAttribute(attribute="titre", limits=limits(2.2, 6.0, "g/L")),
        sets.QualityAttribute(attribute="impurity", limits=limits(None, 1.2, "%")),
    ]
    targets = [sets.QualityTarget(attribute="titre", target="at least 2.2 g/L")]
    said = UNFIT if version.fate == "refused" else "For the plant."
    statement = f"{said} Version {version.number}."
    return says(product=BROTH, attributes=attributes, targets=targets, statement=statement)


def _ended(world: World, transfer: Transfer, version: Version) -> Iterator[Input]:
    """Who ends a version before it is made."""
    name, now = f"{transfer.set} {version.number}", _state(world, transfer, version.number)
    if version.fate == "overtaken" or (version.fate == "withdrawn" and now == version.at):
        request = rnd_api.WithdrawParameterSetRequest(
            set=transfer.set, version=version.number, reason="A range was wrong."
        )
        yield Input(f"withdraw {name}", "rnd", "WithdrawParameterSet", request, 1, actor="cy")
    if version.fate == "cancelled" and now == version.at:
        opened = [
            run.run for run in world.databases["loops"].states(RUNS).values() if run.case == transfer.case
        ]
        for run in opened:
            cancel = loops_api.CancelRunRequest(run=run, reason="The line is taken down.")
            yield Input(f"cancel {name}", "loops", "CancelRun", cancel, 1, actor="manager")


def _goes_on(version: Version, state: str) -> bool:
    """Do the plant's people act on a version that is in the state?"""
    return version.fate in _PATHS or (bool(version.at) and state != version.at)


def _at_plant(world: World, transfer: Transfer, version: Version) -> Iterator[Input]:
    name, case = f"{transfer.set} {version.number}", transfer.case
    found = attempt(world, transfer, version.number)
    if found is None or not _goes_on(version, found.state):
        return
    newest = world.databases["production"].states(TRANSFERS)[case].newest
    if found.state == "proposed" and newest.version == version.number:
        decide = production_api.DecideTransferRequest(
            transfer=case,
            proposal=found.proposal().proposal,
            accepted=version.fate != "kept",
            reason="as proposed" if version.fate != "kept" else "we stay with what we know",
            meaning="I take responsibility",
        )
        late = _late(transfer)
        yield Input(f"decide {name}", "production", "DecideTransfer", decide, 1, actor="manager", late=late)
    if found.state == "in_change_control" and newest.version == version.number:
        yield from _change_control(name, transfer, version.number)
    if found.state == "effective":
        yield _started(transfer, version)
    yield from _made(world, transfer, version)


def _change_control(name: str, transfer: Transfer, version: int) -> Iterator[Input]:
    """By two people."""
    late = _late(transfer)
    of: dict[str, Any] = {"transfer": transfer.case, "version": version}
    validation = production_api.RecordRecipeValidationRequest(
        **of, record="VR-1", statement="three runs in range"
    )
    yield Input(f"prove {name}", "production", "RecordRecipeValidation", validation, 1, actor="qa", late=late)
    filing = production_api.RecordRecipeFilingRequest(
        **of, category=production.FILING_CATEGORY_NOT_REPORTED, statement="inside the space"
    )
    yield Input(f"register {name}", "production", "RecordRecipeFiling", filing, 1, actor="ra", late=late)


def _started(transfer: Transfer, version: Version) -> Input:
    lot = transfer.lot(version.number)
    start = production_api.StartLotRequest(
        lot=lot, product=BROTH, equipment=FERMENTER, transfer=transfer.case
    )
    start.at.FromDatetime(START - timedelta(days=2))
    return Input(f"begin {lot}", "production", "StartLot", start, 1, actor="manager", late=_late(transfer))


def _made(world: World, transfer: Transfer, version: Version) -> Iterator[Input]:
    """The lot is completed and tested."""
    lot = transfer.lot(version.number)
    if lot not in world.databases["production"].states(LOTS):
        return
    complete = production_api.CompleteLotRequest(lot=lot)
    complete.at.FromDatetime(START - timedelta(days=1))
    yield Input(f"finish {lot}", "production", "CompleteLot", complete, 1, actor="manager")
    for test, unit, value in (
        ("titre", "g/L", 4.0),
        ("impurity", "%", 1.5 if version.fate == "off" else 0.8),
    ):
        result = production.TestResultRecorded(
            lot=lot, test=test, value=value, unit=unit, record=f"{test} of {lot}", source="plant-2/lims"
        )
        if test == "impurity":
            result.high = 1.2
        result.at.at.FromDatetime(START - timedelta(hours=1))
        request = production_api.RecordTestResultsRequest(results=[result], all_or_nothing=True)
        yield Input(f"{test} of {lot}", "production", "RecordTestResults", request, 1)
