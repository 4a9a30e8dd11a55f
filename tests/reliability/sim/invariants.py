"""What must hold in every simulated world that has come to rest.

Each check looks at the databases, the log and the story, and gives what is
wrong in words. None of them knows which faults struck.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.traceability.v1 import service_pb2 as traceability_api
from services.alerting.endings import about_deviation
from services.alerting.views import ALERTS
from services.clinical.domain.plans import Plan
from services.clinical.views import ADVERSE, HOLDINGS, PATIENTS, PLANS, RELEASES
from services.clinical.views import DISPENSES as SITE_DISPENSES
from services.kit.bus.protocol import Partition
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record
from services.kit.runners.decider import ANSWERS
from services.kit.runners.notes import MARKS, PARKED, WAITING
from services.loops.handlers import CASE_TOPIC
from services.loops.views import RUNS as LOOP_RUNS
from services.production.views import DEVIATION_ROWS, LOTS
from services.production.views import RUNS as HISTORY
from services.traceability.domain.dispense import Dispense
from services.traceability.domain.entries import MEMBER
from services.traceability.views import DISPENSES, ENTRIES, EXPOSURES, NODES, RUNS
from tests.reliability.sim import business, closings
from tests.reliability.sim.inputs import Input
from tests.reliability.sim.loop_invariants import LOOP_RULES, valued_alike
from tests.reliability.sim.process import SITES, SPECS
from tests.reliability.sim.replay import Replay, folded
from tests.reliability.sim.world import World

#: States of a deviation that nobody has judged.
_UNJUDGED = ("open", "under_investigation")


class Violation(NamedTuple):
    """An invariant that does not hold, and what shows it."""

    invariant: str
    detail: str


def check(world: World, undisturbed: World) -> list[Violation]:
    """Everything that is wrong in the world."""
    found = [Violation(name, detail) for name, rule in RULES.items() for detail in rule(world)]
    found += [Violation("I2 as undisturbed", detail) for detail in _differences(undisturbed, world)]
    found += [Violation("valued as undisturbed", detail) for detail in valued_alike(undisturbed, world)]
    return found


# -- nothing is lost ------------------------------------------------------------


def _acknowledged(world: World) -> Iterator[str]:
    """I1: every acknowledged call has had its effect."""
    for call in world.inputs.values():
        if call.refused and not _came_too_late(call):
            yield f"{call.label} was refused: {call.refused}"
        if call.answer is None:
            yield f"{call.label} was never answered"
    yield from _answers_stored(world)
    yield from _facts_folded(world)


def _answers_stored(world: World) -> Iterator[str]:
    """The events of every stored answer are in the log, once each in effect."""
    there = {event.id for event in events(world)}
    for name, database in world.databases.items():
        for id, answer in database.states(ANSWERS).items():
            lost = [event for event in answer.event_ids if event not in there]
            if lost:
                yield f"{name}: events {lost} of answer {id} never came to the log"


def _facts_folded(world: World) -> Iterator[str]:
    """What the story told is in the states that fold it."""
    story, trace = world.story, world.databases["traceability"]
    nodes, dispenses = trace.states(NODES), trace.states(DISPENSES)
    for made in story.materials:
        if made.lot not in nodes or not set(made.inputs) <= set(nodes[made.lot].inputs):
            yield f"material record {made.record} of {made.lot} is lost"
    for call in world.inputs.values():
        if isinstance(call.request, traceability_api.RecordDispenseRequest):
            (record,) = call.request.dispenses
            if not _claimed(dispenses.get(record.dispense), record):
                yield f"{call.label}: the claim of {record.source} on {record.dispense} is lost"
    for given in story.given:
        own = world.databases[f"clinical.{given.person.site}"].states(SITE_DISPENSES).get(given.id)
        if given.told not in ("pharmacy", "nobody") and (own is None or own.own is None):
            yield f"the hospital's record of {given.id} is lost"
    for id, lot in world.databases["production"].states(LOTS).items():
        if not lot.transfer and business.investigated(lot) != story.investigated(id):
            yield f"{id}: investigations found {business.investigated(lot)}, not {story.investigated(id)}"
    yield from _people_folded(world)
    yield from _reports_folded(world)


def _reports_folded(world: World) -> Iterator[str]:
    """What hospitals report is kept, each report once."""
    wanted: dict[tuple[str, str], int] = defaultdict(int)
    for person, _ in world.story.reports:
        wanted[person.site, person.pseudonym] += 1
    for site in SITES:
        for course in world.databases[f"clinical.{site}"].states(ADVERSE).values():
            told = sum(report.source == "spontaneous" for report in course.reports)
            if told != wanted.pop((site, course.pseudonym), 0):
                yield f"{site}: {told} reports of {course.pseudonym}'s itching"
    yield from (f"the report of {lost} is lost" for lost in wanted)


def _claimed(held: Dispense | None, record: Any) -> bool:
    claims = held.claims if held else ()
    return any(
        (c.source, c.site, c.pseudonym) == (record.source, record.site, record.pseudonym) for c in claims
    )


#: Refusals that are right, where the platform went on between a person's look and their call.
_TOO_LATE = {
    "RecordResponse": "PLAN_CLOSED",
    "RecordFhirResources": "PLAN_CLOSED",
    "ExplainUnattributed": "RUN_OVER",
    "EvaluateHazard": "ALREADY_EVALUATED",
}


def _came_too_late(call: Input) -> bool:
    return call.refused.startswith((_TOO_LATE.get(call.method, "never"), *call.late))


def _people_folded(world: World) -> Iterator[str]:
    for person in world.story.people:
        held = world.databases[f"clinical.{person.site}"].states(PATIENTS).get(person.pseudonym)
        if person.consents and (held is None or held.consent != person.consents[-1]):
            yield f"the newest record of patient {person.pseudonym} is lost"
    for call in world.inputs.values():
        if call.method == "RecordResponse":
            plan = world.databases[call.service].states(PLANS)[call.request.plan]
            if not plan.answered and not call.refused:
                yield f"the answer to plan {plan.plan} is lost"
        if call.method == "RecordFhirResources":
            name = call.label.removeprefix("laboratory ")
            if not world.databases[call.service].states(PLANS)[name].labs and not call.refused:
                yield f"the laboratory's result for plan {name} is lost"
    for root in world.story.roots:
        runs = [run for run in world.databases["production"].states(HISTORY).values() if run.lot == root.lot]
        points = sum(run.samples.points for run in runs)
        if points != _POINTS:
            yield f"{points} of {_POINTS} readings of {root.lot} are kept"


#: Samples of three tags in a run of the story.
_POINTS = 72


def _letters(world: World) -> Iterator[str]:
    """Nothing is dead-lettered, and no key is parked, where there is no bug."""
    for name, database in world.databases.items():
        for row in database.outbox.values():
            if row.topic.endswith(".dlq"):
                why = {k: v for k, v in row.headers if k.startswith("dlq_")}
                yield f"{name} dead-lettered {dict(row.headers)['ce_type']!r}: {why}"
        if database.states(PARKED):
            yield f"{name} parked {sorted(database.states(PARKED))}"
        if database.states(WAITING):
            yield f"{name} still keeps events for what never arrived: {sorted(database.states(WAITING))}"


def _watermarks(world: World) -> Iterator[str]:
    """A watermark only goes forward, up to the end: nothing is folded twice, or passed over.

    Where an event waited for its state, the watermark was written again as it stood when that was taken up.
    """
    for name, database in world.databases.items():
        waited = {"|".join(id.split("|")[:3]) for id in database.history(WAITING)}
        for id, marks in database.history(MARKS).items():
            places = [mark.next for mark in marks]
            if id.rpartition("|")[0] in waited:
                places = [place for place, _ in groupby(places)]
            if any(later <= earlier for earlier, later in pairwise(places)):
                yield f"{name}: the watermark {id} went through {places}"
            end = len(world.log.records[Partition(marks[-1].topic, marks[-1].partition)])
            if places[-1] != end:
                yield f"{name}: the watermark {id} stands at {places[-1]}, the log ends at {end}"


# -- every version has one event ------------------------------------------------------


def events(world: World) -> list[Event]:
    """Every record of the log as an event, dead letters left out."""
    records = [record for record in world.log.all() if not record.topic.endswith(".dlq")]
    return [from_record(contract(), record) for record in records]


def _versions(world: World) -> Iterator[str]:
    """Every committed version of an aggregate has exactly one distinct event, and they came in order."""
    ids: dict[tuple[str, str], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    first: dict[tuple[str, int, str, str], list[int]] = defaultdict(list)
    for event in events(world):
        if event.seq is None:
            continue
        place = (event.topic, event.partition, event.source, event.subject)
        if event.seq not in first[place]:
            first[place].append(event.seq)
        if event.topic != CASE_TOPIC:
            ids[(event.source, event.subject)][event.seq].add(event.id)
    for place, seqs in first.items():
        if any(later < earlier for earlier, later in pairwise(seqs)):
            yield f"{place}: versions came first in the order {seqs}"
    for source, held in ids.items():
        many = {seq: found for seq, found in held.items() if len(found) > 1}
        if many:
            yield f"{source}: more than one event for a version: {many}"
    versions = {**_stored_versions(world), **_machine_versions(world)}
    for source in sorted(versions.keys() | ids.keys()):
        told, stored = sorted(ids.get(source, {})), versions.get(source, 0)
        if told != list(range(1, stored + 1)):
            yield f"{source}: stored version {stored}, versions in the log {told}"


def _stored_versions(world: World) -> dict[tuple[str, str], int]:
    found = {}
    for name, make in SPECS.items():
        spec = make()
        for kind in spec.kinds:
            if kind.evolve is not None:
                for item in world.databases[name].all(kind.name):
                    found[(f"/svc/{spec.name}/{kind.name}", item.id)] = item.version
    return found


def _machine_versions(world: World) -> dict[tuple[str, str], int]:
    states = [case.state for case in world.machine.loop.cases.values() if case.state]
    return {("/svc/loops/cases", run): seq for state in states for run, seq in state.places().items()}


# -- the exposure protocol ----------------------------------------------------------------


def _exposed(world: World) -> Iterator[str]:
    """I3: the journals hold exactly the truth, for every confirmed lot."""
    found = {
        root: set().union(*(business.exposed(world, run) for run in runs))
        for root, runs in business.roots(world).items()
    }
    for root in sorted(world.story.confirmed.keys() | found.keys()):
        truth = world.story.exposed(root) if root in world.story.confirmed else set()
        held = found.get(root, set())
        if held != truth:
            yield f"{root}: missed {sorted(truth - held)}, wrongly named {sorted(held - truth)}"
    for run in world.databases["traceability"].states(RUNS).values():
        yield from _at_sites(world, run.run)
    yield from _became(world)


def _became(world: World) -> Iterator[str]:
    """What became of each member, as the journals and the sites have it, is what happened."""
    for entry in world.databases["traceability"].states(ENTRIES).values():
        if entry.kind != MEMBER:
            continue
        told, truth = entry.disposition.removeprefix("REINSTATED"), world.story.became(entry.dispense)
        held = world.databases[f"clinical.{entry.site}"].states(SITE_DISPENSES)[entry.dispense]
        member = held.member(entry.run, entry.pseudonym)
        at_site = member.disposition if member else "nothing"
        if not told == truth == at_site:
            yield f"{entry.dispense}: became {truth!r}, the journal has {told!r}, the site {at_site!r}"


def _at_sites(world: World, run: str) -> Iterator[str]:
    """What the journal says and what the sites hold of it are the same."""
    head = world.databases["traceability"].states(EXPOSURES).get(run)
    members = business.exposed(world, run)
    for site in SITES:
        mine = {m for m in members if m[0] == site}
        database = world.databases[f"clinical.{site}"]
        held = {d.dispense for d in database.states(SITE_DISPENSES).values() if run in d.runs}
        if held != {m[3] for m in mine}:
            told = sorted(member[3] for member in mine)
            yield f"run {run}: the journal has {told} for {site}, which holds {sorted(held)}"
        holding = database.states(HOLDINGS).get(f"{run}|{site}")
        heads = {s.site: s for s in head.sites} if head else {}
        if site in heads and (holding is None or not holding.matched or holding.digest != heads[site].digest):
            yield f"run {run}: {site} does not hold what was announced"


def _evidence(world: World) -> Iterator[str]:
    """Nobody is compared with the exposed who is exposed; no small group is told; every follow-up that is
    complete has told what is final of it."""
    for site in SITES:
        database = world.databases[f"clinical.{site}"]
        plans = database.states(PLANS).values()
        exposed = {plan.pseudonym for plan in plans if plan.role == "exposed" and plan.live}
        for plan in plans:
            if plan.role == "comparator" and plan.stage == "open" and plan.pseudonym in exposed:
                yield f"{plan.pseudonym} is exposed, and compared with the exposed of run {plan.run}"
        for id, holding in database.states(HOLDINGS).items():
            decided = database.states(RELEASES).get(id)
            told = decided.final_plans if decided else -1
            if holding.final and not holding.over and told != holding.plans:
                yield f"run {holding.run}: {site} told the end of {told} plans, not of {holding.plans}"
    for event in events(world):
        if isinstance(event.message, clinical.EvidenceReleased):
            for row in (event.message.exposed, event.message.comparators):
                counts = (row.patients, row.cases, 0 if row.withheld else row.patients - row.cases)
                if any(0 < count < _SMALLEST for count in counts):
                    yield f"a group smaller than {_SMALLEST} was told: {counts}"


_SMALLEST = 10


def _blinded(world: World) -> Iterator[str]:
    """A site's own topics name no lot but those that its own people received."""
    carried = {topic.at(site): site for topic in contract().topics for site in SITES if topic.scope == "site"}
    received: dict[str, set[str]] = defaultdict(set)
    for given in world.story.given:
        received[given.person.site] |= {given.lot, given.mixed}
    known = {lot for made in world.story.materials for lot in (made.lot, *made.inputs)}
    for event in events(world):
        if site := carried.get(event.topic):
            text = event.message.SerializeToString()
            told = {lot for lot in known - received[site] if lot == event.case or lot.encode() in text}
            if told:
                yield f"{event.type} tells {site} of {sorted(told)}"


def _monotone(world: World) -> Iterator[str]:
    """I5: a watch, an implicated lot, a member, a seal never goes away, in no version that ever was."""
    trace = world.databases["traceability"]
    for id, history in trace.history(NODES).items():
        yield from _grows(f"watches of {id}", [set(n.watches) if n else set() for n in history])
    for id, history in trace.history(RUNS).items():
        yield from _grows(f"lots of run {id}", [set(r.lots) if r else set() for r in history])
        yield from _grows(f"seal of run {id}", [{"sealed"} if r and r.sealed else set() for r in history])
    for id, history in trace.history(EXPOSURES).items():
        yield from _grows(f"announced lots of {id}", [set(e.lots) if e else set() for e in history])
        for earlier, later in pairwise(history):
            if earlier.sealed and later.members != earlier.members:
                yield f"run {id} was sealed with {earlier.members} members and has {later.members}"
    for id, entries in trace.history(ENTRIES).items():
        if None in entries or len({e.kind for e in entries}) > 1:
            yield f"entry {id} left its journal"
        if entries[0].kind == MEMBER and len({(e.site, e.pseudonym, e.lot) for e in entries}) > 1:
            yield f"member {id} was changed"
    for id, lots in world.databases["production"].history(LOTS).items():
        yield from _grows(f"runs of lot {id}", [set(held.runs) if held else set() for held in lots])
        for earlier, later in pairwise(lots):
            if earlier.runs and earlier.state == "held" and later.state == "released":
                yield f"lot {id} was released though it is recalled"


def _grows(what: str, sets: list[set[Any]]) -> Iterator[str]:
    for earlier, later in pairwise(sets):
        if not earlier <= later:
            yield f"{what}: {sorted(earlier - later)} went away"


def _ended(world: World) -> Iterator[str]:
    """I7: every confirmed deviation has a run or an alarm; every run is closed, or an alarm says
    what it waits for."""
    runs = world.databases["loops"].states(LOOP_RUNS)
    alerts = world.databases["alerting"].states(ALERTS).values()
    missing = {a.lot for a in alerts if a.kind == alerting.ALERT_KIND_NO_RUN}
    stalled = {a.run for a in alerts if a.kind == alerting.ALERT_KIND_LOOP_STALLED}
    for row in world.databases["production"].states(DEVIATION_ROWS).values():
        opened = any(run.lot == row.lot for run in runs.values())
        if row.state == "confirmed" and not opened and row.lot not in missing:
            yield f"deviation {row.deviation} of {row.lot} has neither a run nor an alarm"
    for run in runs.values():
        if run.state != "closed" and run.run not in stalled:
            yield f"run {run.run} of {run.lot} is {run.state} in stage {run.stage}, and no alarm says so"
        if run.state != "closed" and run.loop == "safety" and world.story.finished:
            yield f"run {run.run} of {run.lot} is not closed: it waits for {run.waiting_for!r} in {run.stage}"
    opened_runs = {r.run for r in world.databases["traceability"].states(RUNS).values()}
    shown = {run.run for run in runs.values() if run.loop == "safety"}
    if opened_runs != shown:
        yield f"traceability knows the runs {sorted(opened_runs)}, loops shows {sorted(shown)}"


# -- folds ------------------------------------------------------------------------------------


def _replayed(world: World) -> Iterator[str]:
    """I2: every topic replayed into fresh databases makes the same folds; once more changes nothing."""
    for name in SPECS:
        replay = Replay(world, name)
        replay.take_all()
        once = folded(replay.database, name)
        yield from (f"{name}: {d}" for d in _apart(folded(world.databases[name], name), once))
        replay.take_all()
        again = folded(replay.database, name)
        yield from (f"{name}, replayed twice: {d}" for d in _apart(once, again))


def _apart(expected: Any, found: Any, path: str = "") -> Iterator[str]:
    """Where two plain values differ, and how."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys(), key=str):
            yield from _apart(expected.get(key), found.get(key), f"{path}/{key}")
    elif expected != found:
        yield f"{path}: expected {expected!r}, found {found!r}"


def _differences(undisturbed: World, world: World) -> Iterator[str]:
    """The business states of two runs of one story."""
    yield from _apart(business.state(undisturbed), business.state(world))


def _caused_once(world: World) -> Iterator[str]:
    """A cause has each of its effects on a run of the loop once, however often the machine saw it."""
    ids: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for event in events(world):
        if event.source == "/svc/loops/cases" and event.topic != CASE_TOPIC:
            about = str(getattr(event.message, "stage", "") or getattr(event.message, "version", ""))
            ids[(event.cause, event.type, event.subject, about)].add(event.id)
    for what, found in ids.items():
        if len(found) > 1:
            yield f"{what} stands for {len(found)} events: {sorted(found)}"


def _reminded(world: World) -> Iterator[str]:
    """Who has not answered is reminded of each plan once after a day and after three; nobody else, ever."""
    told: dict[tuple[str, int], set[str]] = defaultdict(set)
    for event in events(world):
        if isinstance(event.message, clinical.RemindersDue):
            for reminder in event.message.plans:
                told[reminder.plan, event.message.hours].add(event.id)
    for (name, hours), ids in told.items():
        if len(ids) > 1:
            yield f"plan {name}: {len(ids)} reminders after {hours} h"
    wanted = {hours for hours in (24, 72) if hours < world.story.hours}
    for site in SITES:
        for plan in world.databases[f"clinical.{site}"].states(PLANS).values():
            given = {hours for name, hours in told if name == plan.plan}
            if given - wanted or given != {int(hours) for hours in plan.reminded}:
                yield f"plan {plan.plan}: reminded after {given} h, of {wanted}; kept is {plan.reminded}"
            if _waited_for(world, site, plan) and given != wanted:
                yield f"plan {plan.plan}: its patient never answered, and was reminded after {given} h"


def _calling(world: World) -> Iterator[str]:
    """An alert of deviations calls exactly while one that it stands for is not judged."""
    rows = world.databases["production"].states(DEVIATION_ROWS).values()
    waiting = {about_deviation(row.deviation): row.deviation for row in rows if row.state in _UNJUDGED}
    for alert in world.databases["alerting"].states(ALERTS).values():
        left = sorted(waiting[about] for about in alert.abouts if about in waiting)
        if alert.kind == alerting.ALERT_KIND_DEVIATION and alert.over == bool(left):
            calls = "is over" if alert.over else "still calls"
            yield f"alert {alert.alert} of {alert.lot} {calls}; not judged are {left}"


def _waited_for(world: World, site: str, plan: Plan) -> bool:
    """A plan whose patient always consented, never answered, took all that they were given, and was asked."""
    if plan.stage != "open":
        return False
    story = world.story
    person = next(p for p in story.people if (p.site, p.pseudonym) == (site, plan.pseudonym))
    returned = any(given.became for given in story.given if given.person == person)
    holding = world.databases[f"clinical.{site}"].states(HOLDINGS)[f"{plan.run}|{site}"]
    asked = holding.hazard is not None and not holding.over
    return asked and person.answer is None and set(person.consents) == {True} and not returned


RULES: Mapping[str, Callable[[World], Iterator[str]]] = {
    "I1 nothing acknowledged is lost": _acknowledged,
    "no dead letters": _letters,
    "watermarks go forward": _watermarks,
    "one event for every version": _versions,
    "one effect of every cause": _caused_once,
    "I3 exposed as in truth": _exposed,
    "evidence is of others than the exposed, and tells no small group": _evidence,
    "a site's topics name the lots of its own people": _blinded,
    "I5 recall is monotone": _monotone,
    "I7 closed or alarmed": _ended,
    "a run ends as its corrective action was decided": closings.decided,
    "an alert ends with the judgement": _calling,
    "reminded once": _reminded,
    "I2 replay": _replayed,
    **LOOP_RULES,
}

__all__ = ["RULES", "Violation", "check"]
