"""Judges a calm world by its closings: a closed run lacks nothing, and a run that is not closed says why.

Written from the facts of the story alone; nothing here knows what was lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.loops.v1 import events_pb2 as loops
from services.alerting.views import ALERTS
from services.clinical.views import PLANS
from services.kit.ids import plan_id
from services.loops.domain.runs import RunView
from services.loops.views import RUNS as LOOP_RUNS
from services.production.views import CAPAS, LIMITS, LOTS, TRANSFERS
from services.traceability.views import RUNS
from tests.reliability.sim import business
from tests.reliability.sim.story import Person, Story
from tests.reliability.sim.tale import Transfer
from tests.reliability.sim.transfers import done
from tests.reliability.sim.world import World

_GONE = ("returned", "corrected")


def amiss(world: World) -> list[str]:
    """What a run closed without, and what waits without saying so, in words."""
    runs = list(world.databases["loops"].states(LOOP_RUNS).values())
    found = [wrong for root in world.story.confirmed for wrong in _of_root(world, root, runs)]
    for run in runs:
        if not run.closed:
            found += _silent(world, run)
        elif run.loop == "safety":
            found += _closed(world, run)
        elif run.loop == "transfer":
            found += _transferred(world, run)
    found += decided(world)
    return found + [wrong for transfer in world.tale.transfers for wrong in _released(world, transfer)]


def _released(world: World, transfer: Transfer) -> Iterator[str]:
    """Every release has a run, or an alarm says that it has none."""
    missing = {lot for lot, _ in _alerts(world, alerting.ALERT_KIND_NO_RUN)}
    runs = [run for run in world.databases["loops"].states(LOOP_RUNS).values() if run.case == transfer.case]
    wanted = [one for one in transfer.versions if done(world, f"release {transfer.set} {one.number}")]
    if len(runs) < len(wanted) and transfer.case not in missing:
        yield f"{transfer.case} has {len(runs)} runs of {len(wanted)} versions, and no alarm"


def _transferred(world: World, run: RunView) -> Iterator[str]:
    """A closed transfer has an effective recipe, a lot that was made by it, and its outcome."""
    closed = loops.LoopClosed.FromString(run.closed)
    if closed.outcome != loops.RUN_OUTCOME_CLOSED:
        return
    held = world.databases["production"].states(TRANSFERS).get(run.case)
    found = held.version(closed.version) if held else None
    if found is None or not (found.decided and found.validated and found.filing and found.outcome):
        yield f"run {run.run} closed, and the plant lacks what it closed with"
    for lot in closed.lots:
        made = world.databases["production"].states(LOTS).get(lot)
        if made is None or (made.transfer, made.transfer_version) != (run.case, closed.version):
            yield f"run {run.run} closed with the lot {lot}, which is not made by its recipe"


def _alerts(world: World, kind: alerting.AlertKind) -> Iterator[tuple[str, str]]:
    for alert in world.databases["alerting"].states(ALERTS).values():
        if alert.kind == kind:
            yield alert.lot, alert.run


def _silent(world: World, run: RunView) -> Iterator[str]:
    stalled = {run for _, run in _alerts(world, alerting.ALERT_KIND_LOOP_STALLED)}
    if not run.waiting_for and run.run not in stalled:
        yield f"run {run.run} waits in {run.stage} and says nothing"


def _of_root(world: World, root: str, runs: list[RunView]) -> Iterator[str]:
    """The runs of a confirmed root together hold everybody, or one of them is not closed and says so,
    or an alarm says that a run is missing."""
    mine = [run for run in runs if run.lot == root]
    missing = root in {lot for lot, _ in _alerts(world, alerting.ALERT_KIND_NO_RUN)}
    if missing or not all(run.closed for run in mine):
        return
    if not mine:
        yield f"{root} has neither a run nor an alarm"
    held = set().union(*(business.exposed(world, run.run) for run in mine))
    lacking = world.story.exposed(root) - held
    if lacking:
        yield f"every run of {root} is closed, and nobody misses {sorted(lacking)}"


# -- what a person decided of a corrective action ---------------------------------


def decided(world: World) -> Iterator[str]:
    """A run ends as its corrective action was decided. What was refused changed no limit, told research
    nothing, and holds no deviation back."""
    production = world.databases["production"]
    held = production.states(CAPAS)
    refused = {id for id, capa in held.items() if capa.state == "refused"}
    for run in world.databases["loops"].states(LOOP_RUNS).values():
        if run.closed and run.loop == "safety":
            yield from _as_decided(run, refused)
    for limits in production.states(LIMITS).values():
        for change in limits.changes:
            if change.capa in refused:
                yield f"the limit of {change.tag} was changed by {change.capa}, which was refused"
    for lot in production.states(LOTS).values():
        for found in lot.deviations:
            if found.state == "capa_required" and found.capa in refused:
                yield f"deviation {found.deviation} of {lot.lot} waits for {found.capa}, which was refused"


def _as_decided(run: RunView, refused: set[str]) -> Iterator[str]:
    """One that follows another ends without waiting for its own action."""
    closed, opened = loops.LoopClosed.FromString(run.closed), loops.SafetyRunOpened.FromString(run.opened)
    if closed.outcome == loops.RUN_OUTCOME_REFUSED:
        if opened.follows or closed.capa not in refused or closed.insight:
            yield f"run {run.run} closed as refused, and was not"
        if not (closed.actor and closed.reason and closed.meaning):
            yield f"run {run.run} closed as refused, and does not say by whom and why"
    whole = closed.outcome == loops.RUN_OUTCOME_CLOSED and not opened.follows
    if whole and (closed.capa in refused or not closed.insight):
        yield f"run {run.run} closed as if its corrective action {closed.capa} had not been refused"


# -- one closed run ---------------------------------------------------------------


def _closed(world: World, run: RunView) -> Iterator[str]:
    closed, opened = loops.LoopClosed.FromString(run.closed), loops.SafetyRunOpened.FromString(run.opened)
    watched = world.databases["traceability"].states(RUNS).get(run.run)
    if watched is None:
        yield f"run {run.run} closed without a trace"
        return
    members = business.exposed(world, run.run)
    if not opened.follows:
        lacking = _early(world.story).exposed(run.lot) - members
        if lacking:
            yield f"run {run.run} closed without the dispenses {sorted(lacking)}"
        lost = _early(world.story).descendants(run.lot) - set(watched.lots)
        if lost:
            yield f"run {run.run} closed without the lots {sorted(lost)}"
    if closed.members != len(members):
        yield f"run {run.run} closed with {closed.members} members, its journal has {len(members)}"
    for lot in watched.lots:
        held = world.databases["production"].states(LOTS).get(lot)
        if held is None or run.run not in held.runs:
            yield f"run {run.run} closed, and nobody decided on the lot {lot}"
    for site, pseudonym in sorted({(site, pseudonym) for site, pseudonym, _, _ in members}):
        yield from _patient(world, run.run, site, pseudonym, members)


def _early(story: Story) -> Story:
    """What was told before anybody confirmed a deviation."""
    return replace(
        story,
        materials=tuple(made for made in story.materials if not made.late),
        given=tuple(given for given in story.given if not given.late),
    )


def _patient(
    world: World, run: str, site: str, pseudonym: str, members: set[tuple[str, str, str, str]]
) -> Iterator[str]:
    """The patient's plan, and that they were told, as they and their dispenses ask for."""
    (person,) = (p for p in world.story.people if (p.site, p.pseudonym) == (site, pseudonym))
    plan = world.databases[f"clinical.{site}"].states(PLANS).get(plan_id(run, pseudonym))
    stage, notice = (plan.stage, plan.notice) if plan else ("none", "")
    mine = {m[3] for m in members if m[:2] == (site, pseudonym)}
    spared = all(given.became in _GONE for given in world.story.given if given.id in mine)
    if stage not in _stages(person, spared):
        yield f"run {run} closed, and the plan of {pseudonym} is {stage}"
    if not spared and notice not in ("notified", "unreachable"):
        yield f"run {run} closed, and {pseudonym} was not told: {notice or 'nobody owes it'}"


def _stages(person: Person, spared: bool) -> set[str]:
    """Where a patient's plan may stand in the end."""
    minds = {"open" if consent else "declined" for consent in person.consents}
    return minds | ({"void"} if spared else set())
