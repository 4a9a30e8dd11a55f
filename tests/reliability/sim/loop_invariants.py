"""What must hold of the transfer and the evidence loop in every simulated world that has come to rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.exchange.views import METERS, STUDIES
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record
from services.kit.ids import loop_of, study_case, transfer_case
from services.loops.domain.cases import stages_of
from services.loops.domain.runs import outcome_word
from services.loops.handlers import CASE_TOPIC
from services.production.domain.transfer import Transfer as Held
from services.production.views import CALIBRATIONS, LOTS, RELEASES, TRANSFERS, calibration_id, release_id
from tests.reliability import study_rules
from tests.reliability.sim import business
from tests.reliability.sim.agents import ROWS
from tests.reliability.sim.loop_model import OPEN, study_end, transfer_ends
from tests.reliability.sim.process import STUDY_SITES
from tests.reliability.sim.tale import BROTH, PLANT, Transfer, Version
from tests.reliability.sim.transfers import attempt, done
from tests.reliability.sim.world import World
from tests.reliability.study_rules import StudyRule, of
from tests.unit.exchange.hospitals import data

Opened = loops.TransferRunOpened | loops.EvidenceRunOpened
#: How the run of a version ends by its fate, and in which state the plant then holds it. Where nobody
#: waits for who overtakes, either may come first.
_BY_FATE: Mapping[str, tuple[str, str]] = {
    "concluded": ("closed", "concluded"),
    "kept": ("closed", "concluded"),
    "off": ("closed", "concluded"),
    "refused": ("refused", "refused"),
    "unsigned": (OPEN, "proposed"),
    "withdrawn": ("withdrawn", "ended"),
    "superseded": ("superseded", "ended"),
}
#: How the run of a study may end by its fate.
_STUDIES: Mapping[str, set[str]] = {
    "answered": {"closed"},
    "declined": {"declined"},
    "contested": {"closed", "declined"},
    "refused": {"refused"},
    "stopped": {"stopped"},
    "halted": {"stopped", "closed"},
    "expired": {"expired"},
}


def distinct(world: World) -> list[Event]:
    """Every event once, where it came first, dead letters and copies left out; a topic's in its order."""
    found: dict[str, Event] = {}
    for record in world.log.all():
        if record.topic != CASE_TOPIC and not record.topic.endswith(".dlq"):
            event = from_record(contract(), record)
            found.setdefault(event.id, event)
    return list(found.values())


def _heard(world: World) -> dict[str, list[Message]]:
    """What each case heard, in order, each event once."""
    heard: dict[str, list[Message]] = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    for partition in world.log.partitions_of(CASE_TOPIC):
        for record in world.log.records[partition]:
            event = from_record(contract(), record)
            if (event.case, event.id) not in seen:
                seen.add((event.case, event.id))
                heard[event.case].append(event.message)
    return heard


# -- runs ---------------------------------------------------------------------------


def one_run(world: World) -> Iterator[str]:
    """Every release to a plant, and every study that is requested, has exactly one run."""
    told = distinct(world)
    wanted = {
        *((transfer_case(m.set, m.plant), m.version) for m in of(told, rnd.ParameterSetReleased)),
        *((study_case(m.study), 0) for m in of(told, exchange.StudyRequested)),
    }
    opened: dict[tuple[str, int], set[str]] = defaultdict(set)
    for message in of(told, loops.TransferRunOpened, loops.EvidenceRunOpened):
        opened[message.case, getattr(message, "version", 0)].add(message.run)
    for trigger in sorted(wanted | opened.keys()):
        if len(opened.get(trigger, ())) != 1 or trigger not in wanted:
            yield f"{trigger} has the runs {sorted(opened.get(trigger, ()))}"


def ended_rightly(world: World) -> Iterator[str]:
    """Every run ends once, as what its case heard says, or is open."""
    told, heard = distinct(world), _heard(world)
    ends: dict[str, list[str]] = defaultdict(list)
    for closed in of(told, loops.LoopClosed):
        ends[closed.run].append(outcome_word(closed))
    versions = {m.run: m.version for m in of(told, loops.TransferRunOpened)}
    for opened in of(told, loops.TransferRunOpened, loops.EvidenceRunOpened):
        if isinstance(opened, loops.TransferRunOpened):
            mine = {run: v for run, v in versions.items() if _case_of(told, run) == opened.case}
            wanted = transfer_ends(heard[opened.case], mine).get(opened.version, "never released")
        else:
            wanted = study_end(heard[opened.case])
        found = ends.get(opened.run, [OPEN])
        if found != [wanted]:
            yield f"the run {opened.run} of {opened.case} ended {found}, by what its case heard {wanted!r}"


def _case_of(told: list[Event], run: str) -> str:
    return next(str(m.case) for m in of(told, loops.TransferRunOpened) if m.run == run)


def told_once(world: World) -> Iterator[str]:
    """Nothing is told of a run twice."""
    ids: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for event in distinct(world):
        if event.source == "/svc/loops/cases" and loop_of(event.case) != "safety":
            ids[event.run, event.type, str(getattr(event.message, "stage", ""))].add(event.id)
    yield from (f"{what} is told by {sorted(found)}" for what, found in ids.items() if len(found) > 1)


def stages_sum(world: World) -> Iterator[str]:
    """The stages of a run follow one another without a gap, in order; a closed run has had them all."""
    told = distinct(world)
    done: dict[str, list[loops.StageCompleted]] = defaultdict(list)
    for message in of(told, loops.StageCompleted):
        done[message.run].append(message)
    closed = {m.run: outcome_word(m) for m in of(told, loops.LoopClosed)}
    for opened in of(told, loops.TransferRunOpened, loops.EvidenceRunOpened):
        stages, names = done[opened.run], stages_of(loop_of(opened.case))
        if tuple(stage.stage for stage in stages) != names[: len(stages)]:
            yield f"{opened.run} went through {[stage.stage for stage in stages]}"
        if closed.get(opened.run) == "closed" and len(stages) != len(names):
            yield f"{opened.run} closed after {len(stages)} of {len(names)} stages"
        if any(later.began != earlier.ended for earlier, later in pairwise(stages)):
            yield f"the stages of {opened.run} have a gap"
        if any(stage.ended.ToDatetime() < stage.began.ToDatetime() for stage in stages):
            yield f"a stage of {opened.run} ends before it begins"


# -- the transfer loop ------------------------------------------------------------------


def over_is_over(world: World) -> Iterator[str]:
    """No version becomes effective, and no lot is started by it, after the plant knew that it is over."""
    cells = world.databases["production"].cells
    for told in of(distinct(world), rnd.ParameterSetReleased):
        known = cells[RELEASES.name].get(release_id(told.set, told.version, told.plant), [])
        over = next((cell.since for cell in known if cell.state is not None and cell.state.over), None)
        if over is None:
            continue
        case = transfer_case(told.set, told.plant)
        effective = _since(cells[TRANSFERS.name].get(case, []), told.version, "effective")
        if effective is not None and effective > over:
            yield f"{case} version {told.version} became effective after the plant knew that it is over"
        state = _at_plant(world, case, told.version)
        if state not in ("refused", "ended") and not _goes_on(world, told, state):
            yield f"{case} version {told.version} is over, and the plant holds it as {state!r}"


def _goes_on(world: World, told: rnd.ParameterSetReleased, state: str) -> bool:
    """A version by which lots are made goes on until a later one is effective, unless it is taken back."""
    if state not in ("effective", "concluded") or _taken_back(world, told):
        return False
    return not _followed(world, transfer_case(told.set, told.plant), told.version)


def _taken_back(world: World, told: rnd.ParameterSetReleased) -> bool:
    withdrawn = of(distinct(world), rnd.ParameterSetWithdrawn)
    return (told.set, told.version) in {(one.set, one.version) for one in withdrawn}


def _followed(world: World, case: str, version: int) -> bool:
    """Did a later version become effective?"""
    cells = world.databases["production"].cells[TRANSFERS.name].get(case, [])
    held = world.databases["production"].states(TRANSFERS).get(case)
    later = [one.version for one in held.versions if one.version > version] if held else []
    return any(_since(cells, number, "effective") is not None for number in later)


def _since(cells: Iterable[Any], version: int, state: str) -> int | None:
    """The commit in which a version came into a state."""
    for cell in cells:
        held: Held | None = cell.state
        found = held.version(version) if held else None
        if found is not None and found.state == state:
            return int(cell.since)
    return None


def _at_plant(world: World, case: str, version: int) -> str:
    held = world.databases["production"].states(TRANSFERS).get(case)
    found = held.version(version) if held else None
    return found.state if found else ""


def transfers_true(world: World) -> Iterator[str]:
    """What became of every version is what the tale says; research learnt of every tested lot, once."""
    closed = {m.run: outcome_word(m) for m in of(distinct(world), loops.LoopClosed)}
    for transfer in world.tale.transfers:
        for version in transfer.versions:
            yield from _version_true(world, transfer, version, closed)
    yield from _learnt(world)


def _version_true(
    world: World, transfer: Transfer, version: Version, closed: Mapping[str, str]
) -> Iterator[str]:
    name = f"{transfer.set} version {version.number}"
    if not done(world, f"release {transfer.set} {version.number}"):
        yield f"{name} was never released"
        return
    found = attempt(world, transfer, version.number)
    if found is None:
        yield f"the plant never heard of {name}"
        return
    now = (closed.get(found.run, OPEN), found.state)
    if version.fate == "cancelled":
        wanted = [("cancelled", "ended")]  # the plant goes on with nothing of it
    elif version.fate == "overtaken":
        wanted = [("withdrawn", "ended"), ("closed", "ended")]
    elif version.at == "effective" and version.fate == "superseded":
        followed = _followed(world, transfer.case, version.number)
        wanted = [("superseded", "ended" if followed else "effective")]
    else:
        wanted = [_BY_FATE[version.fate]]
    if now not in wanted:
        yield f"{name} was {version.fate}, and is {now}"
    lot = world.databases["production"].states(LOTS).get(transfer.lot(version.number))
    if lot is not None and (lot.transfer, lot.transfer_version) != (transfer.case, version.number):
        yield f"{lot.lot} is made by version {lot.transfer_version} of {lot.transfer!r}"
    if lot is not None and version.fate != "overtaken":
        off = [("confirmed", False)] if version.fate == "off" else []
        if business.investigated(lot) != off:
            yield f"{lot.lot}: investigations found {business.investigated(lot)}, not {off}"
    if version.fate in ("concluded", "kept") and found.accepted is not (version.fate == "concluded"):
        yield f"{name} was {version.fate}, and its advice accepted: {found.accepted}"


def _learnt(world: World) -> Iterator[str]:
    told = distinct(world)
    outcomes = [m.lot for m in of(told, production.TransferOutcomeRecorded)]
    learnt = [m for m in of(told, rnd.PredictionCalibrated)]
    if sorted(outcomes) != sorted({m.lot for m in learnt}) or len(learnt) != len(outcomes):
        yield f"outcomes of {sorted(outcomes)}, calibrated by {sorted(m.lot for m in learnt)}"
    if learnt:
        known = world.databases["production"].states(CALIBRATIONS).get(calibration_id(PLANT, BROTH))
        newest = max(one.outcomes for m in learnt for one in m.attributes)
        held = known.by_attribute() if known else {}
        if not held or any(one.outcomes != newest for one in held.values()):
            yield f"the plant has not what research learnt last: {held}"


# -- the evidence loop ------------------------------------------------------------------


def studies_true(world: World) -> Iterator[str]:
    """What became of every study is what the tale says."""
    told = distinct(world)
    closed = {m.study: outcome_word(m) for m in of(told, loops.LoopClosed) if m.study}
    for study in world.tale.studies:
        found = closed.get(study.study, OPEN)
        if found not in _STUDIES[study.fate]:
            yield f"{study.study} was {study.fate}, and its run is {found}"
    decided: dict[str, list[str]] = defaultdict(list)
    for message in of(told, rnd.HypothesisUpdated, rnd.InsightDeclined):
        decided[message.insight].append(type(message).__name__)
    for insight in of(told, exchange.InsightPublished):
        if len(decided[insight.insight]) != 1:
            yield f"research decided {decided[insight.insight]} on the answer of {insight.study}"


def _of_studies(rule: StudyRule) -> Callable[[World], Iterator[str]]:
    """A rule of what topics tell of studies, of a world."""
    return lambda world: rule(distinct(world))


STUDY_RULES: Mapping[str, Callable[[World], Iterator[str]]] = {
    name: _of_studies(rule) for name, rule in study_rules.rules(ROWS).items()
}


def valued_alike(undisturbed: World, world: World) -> Iterator[str]:
    """Where nothing went wrong, what everybody agreed to value is valued; where something did, if at all,
    then with the same shares."""
    peaceful, shares = (study_rules.shares_of(distinct(one)) for one in (undisturbed, world))
    for study, metered in study_rules.metered_of(distinct(undisturbed)).items():
        why = {one.not_valued for one in metered} - {"NOT_ASKED", "NOT_ALL_CONSENT", ""}
        if why:
            yield f"{study}: nothing went wrong, and it is not valued for {sorted(why)}"
    for study in sorted(peaceful.keys() & shares.keys()):
        if peaceful[study] != shares[study]:
            yield f"{study}: the shares are {shares[study]}, undisturbed {peaceful[study]}"


def nothing_left(world: World) -> Iterator[str]:
    """No job is open that nobody computes; what was to be metered when it is valued is metered."""
    kept = world.databases["exchange"]
    if left := kept.states(METERS):
        yield f"never metered: {sorted(left)}"
    yield from (
        f"{id} is in a job that nobody computes"
        for id, study in kept.states(STUDIES).items()
        if study.state == "computing"
    )


@cache
def _secrets() -> tuple[bytes, ...]:
    """What never leaves a site: the digests of members, and columns."""
    found: list[bytes] = []
    for site in STUDY_SITES:
        held = data(site, ROWS)
        found += [*held.members, *(member.hex().encode() for member in held.members)]
        found += [values.tobytes() for values in held.columns.values()]
    return tuple(found)


def nothing_of_members(world: World) -> Iterator[str]:
    """No event of a study carries a member's digest or a column."""
    for event in distinct(world):
        if loop_of(event.case) == "evidence" or event.topic.startswith("pharmaloop.exchange."):
            text = event.message.SerializeToString()
            if any(secret in text for secret in _secrets()):
                yield f"{event.type} of {event.case} carries what is a member's"


LOOP_RULES: Mapping[str, Callable[[World], Iterator[str]]] = {
    "a release and a study have one run": one_run,
    "a run ends as its case heard": ended_rightly,
    "nothing of a run twice": told_once,
    "stages sum": stages_sum,
    "what is over is over": over_is_over,
    "transfers as in truth": transfers_true,
    "studies as in truth": studies_true,
    **STUDY_RULES,
    "no job is left": nothing_left,
    "nothing of members": nothing_of_members,
}
