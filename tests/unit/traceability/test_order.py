"""Any interleaving ends with the journals that the facts alone determine.

Facts, runs and seals are folded in random order; transactions interrupt one
another; steps die and come again. At each seal, everything that was in the
log at its cut is in the journals of its root; at the end, everything is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1.service_pb2 import ExplainUnattributedRequest
from services.kit.contracts import contract
from services.kit.envelope import from_record
from services.traceability.domain import digest
from services.traceability.domain.run import Run
from services.traceability.views import ENTRIES, EXPOSURES, NODES, RUNS
from tests.unit.traceability.driver import (
    Entered,
    Service,
    asked,
    back,
    dispense,
    lot,
    material,
    opened,
    registered,
    started,
    wrong,
)

OF_A_DISPENSE = (events.DispenseRecorded, events.ReturnRecorded, events.DispenseCorrected)
LOTS = ["a", "b", "c", "d", "e"]
SITES = ["hospital-a", "hospital-b"]
DISPENSES = [f"d{n}" for n in range(6)]
ROOTS = ["a", "c"]
ACTIONS = [
    *["publish"] * 3,
    *["fold"] * 3,
    *["step"] * 2,
    *["fold-in-step"] * 2,
    *["step-in-fold", "fold-in-fold", "settle", "seal", "hurry", "seal-all", "loops", "die", "explain"],
]


@dataclass(frozen=True)
class Story:
    """What happened, in some order, and how the platform's work fell between."""

    messages: tuple[Message, ...]
    actions: tuple[tuple[str, int], ...]


#: How a dispense may be told of, and what may become of it.
COURSES = [
    "plain",
    "blind",
    "hospital",
    "mixed",
    "wrong patient",
    "voided",
    "returned",
    "opened",
    "never told",
]


def _records(id: str, name: str, site: str, course: str) -> list[Message]:
    """A pharmacy that may not know the patient, a hospital that does, and their mistakes."""
    blind, told = dispense(id, name), dispense(id, name, site, f"P-{id}", source="hospital")
    named = dispense(id, name, site, f"P-{id}")
    courses: dict[str, list[Message]] = {
        "plain": [blind, blind, told],
        "blind": [blind],
        "hospital": [told],
        "mixed": [dispense(id, name, site, f"P-{id}", possible=["e"])],
        "wrong patient": [dispense(id, name, site, f"X-{id}"), told, wrong(id, name)],
        "voided": [named, wrong(id, name), wrong(id, name)],
        "returned": [named, back(id, name)],
        "opened": [named, back(id, name), back(id, name, unopened=False, source="hospital")],
        "never told": [back(id, name, unopened=False)],
    }
    return courses[course]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    edges = draw(st.lists(st.tuples(st.sampled_from(LOTS), st.sampled_from(LOTS)), max_size=5))
    edges += [("b", "a"), ("d", "c")]
    messages: list[Message] = [material(child, parent) for child, parent in edges]
    messages += [started(name) for name in draw(st.sets(st.sampled_from(LOTS)))]
    messages += [registered(site) for site in SITES]
    for id in DISPENSES:
        name, site = draw(st.sampled_from(LOTS)), draw(st.sampled_from([*SITES, "nowhere"]))
        messages += _records(id, name, site, draw(st.sampled_from(COURSES)))
    order = list(draw(st.permutations(messages)))
    for root in ROOTS:
        order.insert(draw(st.integers(0, len(order) // 2)), opened(f"run-{root}", root))
    actions = draw(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 7)), min_size=30, max_size=60))
    return Story(tuple(order), tuple(actions))


class Player:
    """Plays a story, and the loops' part: seals that are asked for, successors that are opened."""

    def __init__(self, service: Service, story: Story) -> None:
        self.service = service
        self._left = list(story.messages)
        #: Runs whose seal is not looked at.
        self.beside: set[str] = set()
        self._known: set[str] = {f"run-{root}" for root in ROOTS}
        self._acts: dict[str, Callable[[int], None]] = {
            "publish": lambda n: self._publish(1 + n),
            "fold": self._fold,
            "step": self._step,
            "settle": self._settle,
            "seal": self._ask,
            "hurry": self._hurry,
            "seal-all": self._seal_and_settle,
            "explain": self._explain,
            "loops": self._loops,
            "fold-in-fold": self._fold_in_fold,
            "fold-in-step": self._fold_in_step,
            "step-in-fold": self._step_in_fold,
            "die": self._die,
        }

    def play(self, actions: Iterable[tuple[str, int]]) -> None:
        for name, number in actions:
            self._acts[name](number)
        self.service.during, self.service.store.interrupt = {}, None

    def finish(self) -> None:
        """No more facts: seal every run, and every successor."""
        self._publish(len(self._left))
        for _ in range(20):
            self._settle()
            opened_more = self._open_successors()
            self._settle()
            if not self._seal_all() and not opened_more:
                return
        raise AssertionError("the runs do not end though the facts do")

    def _settle(self, number: int = 0) -> None:
        self.service.settle()
        check_seals(self.service, self.beside)

    def _hurry(self, number: int) -> None:
        """Ask for a seal that is folded before the facts that stand beside it."""
        self._ask(number)
        for partition in self.service.waiting():
            if partition.topic.startswith("pharmaloop.loops"):
                self.service.fold(partition, 100)
        for _ in range(1 + number % 4):
            self._step()

    def _seal_and_settle(self, number: int) -> None:
        self._seal_all()

    def _seal_all(self) -> int:
        """Ask for the seal of every open run, and let it be answered."""
        runs = [run for run in self.service.states(RUNS) if not self.service.state(RUNS, run).sealed]
        for run in runs:
            announced = self.service.announced(run)
            if announced:
                self.service.publish(asked(run, announced[-1].version))
        self._settle()
        return len(runs)

    def _publish(self, count: int) -> None:
        for message in self._left[:count]:
            self.service.publish(message)
        del self._left[:count]

    def _fold(self, number: int, besides: int | None = None) -> None:
        """Fold some records of a partition; `besides` is a worker that is busy."""
        parts = [p for p in self.service.waiting() if self.service.worker(p) != besides]
        if parts:
            self.service.fold(parts[number % len(parts)], 1 + number % 3)

    def _step(self, number: int = 0) -> None:
        self.service.step()
        check_seals(self.service, self.beside)

    def _ask(self, number: int) -> None:
        runs = sorted(self.service.states(RUNS))
        if runs:
            name = runs[number % len(runs)]
            announced = self.service.announced(name)
            if announced:
                self.service.publish(asked(name, announced[-1].version))

    def _explain(self, number: int) -> None:
        """A person explains a dispense without a patient."""
        waiting = [e for e in self.service.states(ENTRIES).values() if e.open and not e.explained]
        waiting = [e for e in waiting if not self.service.state(RUNS, e.run).over]
        if waiting:
            entry = waiting[number % len(waiting)]
            request = ExplainUnattributedRequest(run=entry.run, dispense=entry.dispense)
            request.reason, request.meaning = "sold without a prescription", "I looked for them"
            self.service.do("ExplainUnattributed", request)

    def _loops(self, number: int) -> None:
        self._open_successors()

    def _open_successors(self) -> bool:
        before = len(self._known)
        for told in self.service.told():
            late = told.message
            if isinstance(late, events.ExposureAfterSeal) and late.successor not in self._known:
                self._known.add(late.successor)
                root = late.root.rsplit("/", 1)[1]
                self.service.publish(opened(late.successor, root, follows=late.run))
        return len(self._known) > before

    def _publish_and_fold(self, number: int) -> None:
        self._publish(number)
        self.service.fold_all()

    def _fold_in_step(self, number: int) -> None:
        """Fold something old, or all with something new, between a command's reads and its commit."""
        work = partial(self._publish_and_fold if number % 2 else self._fold, number)
        self.service.during[("Walk", "Walk", "Seal", "NoteCut")[number // 2]] = work
        self._step()

    def _step_in_fold(self, number: int) -> None:
        self.service.store.interrupt = self._step
        self._fold(number)
        self.service.store.interrupt = None

    def _fold_in_fold(self, number: int) -> None:
        """Both workers of the fold at once: the other reads before this one commits."""
        parts = self.service.waiting()
        if parts:
            partition = parts[number % len(parts)]
            busy = self.service.worker(partition)
            self.service.store.interrupt = lambda: self._fold(number // 2, besides=busy)
            self.service.fold(partition, 1 + number % 3)

    def _die(self, number: int) -> None:
        self.service.fail_next_answer = True
        self._step()
        self.service.fail_next_answer = False


# -- the oracle: from facts to what must be found ---------------------------


def facts(service: Service, run: Run | None = None) -> list[Message]:
    """The facts in the log; below the cut of a run, if one is given."""
    return _told(service, {(p.topic, p.partition): p.offset for p in run.cut} if run else None)


def folded(service: Service) -> list[Message]:
    """The facts that the service has taken."""
    return _told(service, {(p.topic, p.number): service.folded(p) for p in service.bus.records})


def _told(service: Service, ends: dict[tuple[str, int], int] | None) -> list[Message]:
    found = []
    for partition, records in service.bus.records.items():
        for record in records:
            if ends is None or record.offset < ends.get((partition.topic, partition.number), 0):
                found.append(from_record(contract(), record).message)
    return found


def below(root: str, edges: set[tuple[str, str]]) -> set[str]:
    """The root and everything made from it."""
    found, level = {root}, {root}
    while level:
        level = {child for parent, child in edges if parent in level} - found
        found |= level
    return found


@dataclass(frozen=True)
class Known:
    """What the facts say of one dispense, looked at one by one."""

    told: tuple[events.DispenseRecorded, ...]
    returns: tuple[events.ReturnRecorded, ...]
    taken_back: frozenset[str]

    @property
    def lots(self) -> set[str]:
        claimed = {lot for m in self.told for lot in (m.lot, *m.possible_lots)}
        return claimed | {m.lot for m in self.returns}

    @property
    def standing(self) -> list[events.DispenseRecorded]:
        return [m for m in self.told if m.source not in self.taken_back]

    @property
    def named(self) -> set[tuple[str, str]]:
        return {(m.site, m.pseudonym) for m in self.told if m.site in SITES and m.pseudonym}

    @property
    def unopened(self) -> bool:
        return bool(self.returns) and all(m.state == events.RETURN_STATE_UNOPENED for m in self.returns)

    def became(self, patient: tuple[str, str]) -> str:
        if patient not in {(m.site, m.pseudonym) for m in self.standing}:
            return "CORRECTED"
        if self.unopened:
            return "RETURNED_UNOPENED"
        return "RETURNED" if self.returns else ""

    @property
    def void(self) -> bool:
        return self.unopened or not (self.standing or (self.returns and not self.told))

    @property
    def unattributed(self) -> bool:
        if self.void:
            return False
        certain = {(m.site, m.pseudonym) for m in self.standing if m.site in SITES and m.pseudonym}
        return len({m.pseudonym for m in self.standing if m.pseudonym}) > 1 or not certain


def known(told: Sequence[Message]) -> dict[str, Known]:
    """Every dispense that a fact names."""
    ids = {m.dispense for m in told if isinstance(m, OF_A_DISPENSE)}
    mine = {id: [m for m in told if isinstance(m, OF_A_DISPENSE) and m.dispense == id] for id in ids}
    return {
        id: Known(
            tuple(m for m in messages if isinstance(m, events.DispenseRecorded)),
            tuple(m for m in messages if isinstance(m, events.ReturnRecorded)),
            frozenset(m.source for m in messages if isinstance(m, events.DispenseCorrected)),
        )
        for id, messages in mine.items()
    }


def expected(root: str, told: list[Message]) -> tuple[set[tuple[str, str, str]], set[str], dict[str, Known]]:
    """Members (dispense, site, pseudonym), unattributed dispenses of a root, and all its dispenses."""
    edges = {(i.lot, m.lot) for m in told if isinstance(m, events.MaterialRecorded) for i in m.inputs}
    lots = below(root, edges)
    mine = {id: one for id, one in known(told).items() if one.lots & lots}
    members = {(id, *patient) for id, one in mine.items() for patient in one.named}
    return members, {id for id, one in mine.items() if one.unattributed}, mine


def members_of(service: Service, run: str) -> set[tuple[str, str, str]]:
    entries = [m for m in service.entered(run) if m.kind == "MEMBER"]
    found = {(m.dispense, m.site, m.pseudonym) for m in entries}
    assert len(found) == len(entries), "a member entered twice"
    return found


def runs_of(service: Service, root: str) -> list[str]:
    return [run.run for run in service.states(RUNS).values() if run.root == root]


def check_seals(service: Service, beside: Collection[str] = ()) -> None:
    """Whatever was in the log at the cut of a seal is in a sealed journal of its root."""
    runs = service.states(RUNS)
    for run in runs.values():
        if run.sealed and run.run not in beside:
            told = facts(service, run)
            members, unattributed, mine = expected(run.root, told)
            sealed = {r.run for r in runs.values() if r.sealed and r.root == run.root}
            held = {e.dispense for e in service.states(ENTRIES).values() if e.run in sealed}
            # Before its site registers, a dispense stands there as unattributed, unless nobody took of it.
            sites = {m.site for m in told if isinstance(m, clinical.SiteRegistered)}
            entered = {id for id, site, _ in members if site in sites}
            waiting = {id for id, *_ in members if not mine[id].void} | unattributed
            lacking = (entered | {id for id in waiting if not _came_back(service, run, id)}) - held
            assert not lacking, f"{run.run} was sealed without {lacking}"


def _came_back(service: Service, run: Run, id: str) -> bool:
    """Had nobody taken of the dispense, at some moment from the cut on? A walk may see beyond its cut.

    What a dispense is told of stands in one partition, so the facts are in their order.
    """
    before, upto = (
        [m for m in told if isinstance(m, OF_A_DISPENSE) and m.dispense == id]
        for told in (facts(service, run), folded(service))
    )
    return any(known(upto[:count])[id].void for count in range(len(before), len(upto) + 1) if count)


def check_root(service: Service, root: str) -> None:
    """All journals of a root together hold exactly what the facts determine, each thing once."""
    members, unattributed, dispenses = expected(root, facts(service))
    found: set[tuple[str, str, str]] = set()
    for run in runs_of(service, root):
        mine = members_of(service, run)
        assert not mine & found, "taken again by a successor"
        found |= mine
        check_run(service, run, mine)
        check_dispositions(service, run, mine, dispenses)
    assert found == members
    check_unattributed(service, root, unattributed, set(dispenses))


def check_unattributed(service: Service, root: str, unattributed: set[str], all_of: set[str]) -> None:
    """Each unattributed dispense stands open in a journal; every head counts what is open in its own."""
    runs = runs_of(service, root)
    entries = [e for e in service.states(ENTRIES).values() if e.kind == "UNATTRIBUTED" and e.run in runs]
    for run in runs:
        opened = [e for e in entries if e.run == run and e.open]
        head = service.state(EXPOSURES, run)
        assert head.explained == sum(e.explained for e in opened)
        assert head.unattributed == len(opened) - head.explained
    assert unattributed <= {e.dispense for e in entries if e.open} <= all_of
    everything = known(facts(service))
    for entry in entries:
        if entry.open and entry.dispense not in unattributed:  # then it was explained too late for its run
            before = facts(service, service.state(RUNS, entry.run))
            told, now = known(before).get(entry.dispense), everything[entry.dispense]
            sites = {m.site for m in before if isinstance(m, clinical.SiteRegistered)}
            assert told != now or not {site for site, _ in now.named} <= sites


def check_dispositions(
    service: Service, run: str, members: set[tuple[str, str, str]], dispenses: dict[str, Known]
) -> None:
    """What was told last of each member, also after the seal, is what the facts say; numbers count up."""
    told: dict[tuple[str, str, str], list[Entered]] = defaultdict(list)
    for m in service.entered(run):
        if m.disposition:
            told[m.dispense, m.site, m.pseudonym].append(m)
    assert set(told) <= members
    for member in members:
        mine = told[member]
        assert [m.number for m in mine] == list(range(1, len(mine) + 1))
        last = mine[-1].disposition if mine else ""
        assert ("" if last == "REINSTATED" else last) == dispenses[member[0]].became(member[1:])


def check_run(service: Service, run: str, members: set[tuple[str, str, str]]) -> None:
    """One announcement for each version; the last and the seal say what the entries add up to."""
    announced = service.announced(run)
    assert [a.version for a in announced] == list(range(1, len(announced) + 1))
    sums: dict[str, list[int]] = defaultdict(list)
    for m in service.entered(run):
        if m.epoch:  # else it was told after the seal
            key = service.outside.key(run, m.site)
            sums[m.site].append(digest.term(key, m.site, m.pseudonym, m.lot, m.dispense, m.kind))
    last = announced[-1]
    in_the_log = facts(service, service.state(RUNS, run))
    sites = {m.site for m in in_the_log if isinstance(m, clinical.SiteRegistered)}
    assert sites <= set(last.sites) <= set(SITES)
    for site, at in last.sites.items():
        assert at.digest.hex() == digest.added(digest.ZERO, sums[site])
        assert at.n == sum(site == where for _, where, _ in members)
    sealed = [t.message for t in service.told(run) if isinstance(t.message, events.ExposureSealed)]
    assert [(s.version, s.members) for s in sealed] == [(last.version, len(members))]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(stories())
def test_any_interleaving_ends_with_what_the_facts_determine(story: Story) -> None:
    service = Service()
    try:
        player = Player(service, story)
        player.play(story.actions)
        player.finish()
        check_seals(service)
        for root in ROOTS:
            check_root(service, lot(root))
    finally:
        service.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stories(), st.randoms(use_true_random=False))
def test_the_graph_does_not_depend_on_the_order(story: Story, random: object) -> None:
    shuffled = list(story.messages)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    graphs = []
    for messages in (story.messages, tuple(shuffled)):
        service = Service()
        for message in messages:
            if not isinstance(message, type(opened("", "a"))):
                service.publish(message)
        service.fold_all()
        graphs.append(service.states(NODES))
        service.close()
    assert graphs[0] == graphs[1]
