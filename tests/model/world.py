"""The states of the platform and every move between them.

Parts that send one another messages: the facts' partitions, traceability (a
worker of the fold for each partition, the step of each run, persons), a site's
reactor, the loop, the owner of lots. A transaction is one move, or begins in one
and commits in a later one: then it does what its snapshot said, unless
somebody committed a write to the same state meanwhile; then it has to begin anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as clinical_api
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import events_pb2 as traceability
from pharmaloop.traceability.v1 import service_pb2 as api
from services.clinical.handlers.due import FOLLOW_UP_STEP
from services.clinical.views import DISPENSES as SITE_DISPENSES
from services.clinical.views import PLANS
from services.kit.bus.protocol import Partition
from services.kit.runners.letters import LETTERS
from services.kit.runners.notes import PARKED
from services.kit.store.kinds import Kind, Stored
from services.kit.work import STEPS
from services.traceability.fold import CUT_STEP
from services.traceability.views import ENTRIES, RUNS
from tests.model import messages
from tests.model.configurations import MARKER, Configuration
from tests.model.routes import Routes
from tests.model.services import Loops, site_service, trace_service
from tests.model.steps import Asks, Outcome, Steps, Submits
from tests.model.stores import NONE, Effect
from tests.unit.traceability.driver import FACTS, lot, moment

#: Facts' partitions stand on one topic each in the model; the step only compares places.
_TOPIC = "facts"


class State(NamedTuple):
    """Everything that decides what can happen. Stores and messages are numbers.

    `logs` are whole partitions and `folded` the fold's positions in them; `queues` what was
    published and not taken; `came` how much of each input has come; `steps` what each run's step
    has read; `open` are transactions between begin and commit; `ghosts` commands of frozen steps.
    """

    trace: int
    case: int
    sites: tuple[int, ...]
    logs: tuple[tuple[int, ...], ...]
    folded: tuple[int, ...]
    queues: tuple[tuple[int, ...], ...]
    came: tuple[int, ...]
    steps: tuple[tuple[str, Asks | Submits | tuple[int, ...]], ...] = ()
    open: tuple[tuple[str, Effect], ...] = ()
    ghosts: tuple[Submits, ...] = ()
    copies: tuple[tuple[int, int], ...] = ()
    answered: tuple[tuple[str, str], ...] = ()
    crashes: int = 0
    repeats: int = 0
    mended: bool = False


class Move(NamedTuple):
    """One move: who does what (numbers stand for messages), the state after it, and what it is made of."""

    who: str
    what: Any
    after: State
    parts: tuple[Move, ...] = ()


class World:
    """Traceability, the sites and the loop under one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.trace = trace_service()
        self.loops = Loops()
        self.sites = tuple(site_service(site) for site in configuration.sites)
        self.steps = Steps()
        #: Kinds whose writes do not make two transactions conflict.
        self.unguarded: frozenset[str] = frozenset()
        #: Does the step read the ends of the log before it reads the run?
        self.ends_first = False
        #: Does only a record move the fold's position?
        self.last_record_counts = False
        #: What of that which the fold could not take holds the seal.
        self.holding: tuple[Kind[Any], ...] = (PARKED, LETTERS)
        self.logs = tuple(configuration.logs)
        self._inputs = self._all_inputs()
        self._routes = Routes(configuration)
        self.queues = self._routes.queues
        self._queue = self._routes.queue
        self._parts: dict[str, Callable[[State], Iterator[Move]]] = {
            "loops": self._loops_moves,
            "owner": self._owner_moves,
            "sites": self._site_moves,
            "fold": self._fold_moves,
            "step": self._step_moves,
            "persons": self._persons,
        }
        self._of_loops = [n for name, n in self._queue.items() if name.startswith("loops<")]
        self._sealed: dict[int, bool] = {}
        self._to: dict[tuple[int, int], tuple[int, ...]] = {}
        self._due: dict[int, tuple[tuple[str, str], ...]] = {}
        self.trace.unreadable = set(map(_number, configuration.unreadable))
        self.loops.keeps_latest = configuration.crashes > 0 and "loops" not in configuration.eager

    def _all_inputs(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Streams of facts from outside, each in its order."""
        c = self.configuration
        streams = [(f"log:{name}", tuple(map(_number, said))) for name, said in c.logs.items() if said]
        streams += [
            (f"site:{site}", tuple(messages.fact(m, site) for m in said)) for site, said in c.records.items()
        ]
        return tuple(streams)

    # -- the beginning ------------------------------------------------------

    def initial(self) -> State:
        """Everybody is known, and a deviation of the root has just been confirmed."""
        c = self.configuration
        trace = self.trace.db.empty
        for said in (*(clinical.SiteRegistered(site=site, name=site) for site in c.registered), *c.before):
            trace = self.trace.db.commit(trace, self.trace.take(trace, _number(said)))
        stores = []
        for site, service in zip(c.sites, self.sites, strict=True):
            store = service.db.empty
            subjects = [
                clinical.SubjectRecorded(pseudonym=p, site=site, consent=True, at=moment(0))
                for p in c.patients.get(site, ())
            ]
            for said in (*subjects, *c.known.get(site, ())):
                store = service.db.commit(store, service.take(store, messages.fact(said, site)))
            stores.append(store)
        state = State(
            trace=trace,
            case=0,
            sites=tuple(stores),
            logs=tuple(() for _ in self.logs),
            folded=tuple(0 for _ in self.logs),
            queues=tuple(() for _ in self.queues),
            came=tuple(0 for _ in self._inputs),
            crashes=c.crashes,
            repeats=c.repeats,
        )
        confirmed = production.DeviationConfirmed(lot=lot(c.root), deviation="deviation")
        return self._loops_take(state, messages.told(confirmed, 1, case=lot(c.root)))

    # -- every move ---------------------------------------------------------

    def moves(self, state: State) -> list[Move]:
        """What can happen next; empty when nothing can, ever."""
        parts = dict(self._parts)
        for name in self.configuration.eager:
            del parts[name]
        for name in self.configuration.in_bulk:
            parts[name] = partial(self._in_bulk, parts[name])
        found = [move for part in parts.values() for move in part(state)]
        if not (self.configuration.until_seal and self._is_sealed(state.trace)):
            found += self._inputs_come(state)
        found += self._commits(state)
        found += self._faults(state)
        return [move for move in found if move.after != state]

    def at_once(self, state: State) -> Move | None:
        """What happens before anything else can."""
        for name in self.configuration.eager:
            for move in self._parts[name](state):
                if move.after != state:
                    return move
        return None

    @staticmethod
    def _in_bulk(part: Callable[[State], Iterator[Move]], state: State) -> Iterator[Move]:
        """Each who can move goes on until nothing is left for it, in one move."""
        for who in dict.fromkeys(move.who for move in part(state)):
            after, done = state, []
            while move := next((m for m in part(after) if m.who == who), None):
                after = move.after
                done.append(move)
            yield Move(who, tuple(move.what for move in done), after, tuple(done))

    # -- facts come -----------------------------------------------------------

    def _inputs_come(self, state: State) -> Iterator[Move]:
        for number, (to, said) in enumerate(self._inputs):
            if state.came[number] == len(said):
                continue
            message = said[state.came[number]]
            came = state._replace(came=_with(state.came, number, state.came[number] + 1))
            kind, name = to.split(":")
            if kind == "log":
                place = self.logs.index(name)
                yield Move("publish", message, self._published(came, place, message))
            else:
                site = self.configuration.sites.index(name)
                yield Move(f"record at {name}", message, self._site_takes(came, site, message))

    def _is_sealed(self, trace: int) -> bool:
        if trace not in self._sealed:
            self._sealed[trace] = any(run.sealed for run in self.trace.db.all(trace, RUNS).values())
        return self._sealed[trace]

    @staticmethod
    def _published(state: State, place: int, message: int) -> State:
        return state._replace(logs=_with(state.logs, place, (*state.logs[place], message)))

    # -- the fold -------------------------------------------------------------

    def _fold_moves(self, state: State) -> Iterator[Move]:
        busy = {who for who, _ in state.open}
        for place, name in enumerate(self.logs):
            at = state.folded[place]
            if at < len(state.logs[place]) and name not in busy:
                yield from self._fold_next(state, place, name, at)
        queue = self._queue["fold<loops"]
        if state.queues[queue] and "runs" not in busy:
            message = state.queues[queue][0]
            effect = self.trace.take(state.trace, message, 0, state.mended)
            yield from self._keeping(
                queue, message, self._taken(state, queue), lambda s: self._traced(s, effect)
            )
            yield from self._begin(state, "runs", message, effect)

    def _fold_next(self, state: State, place: int, name: str, at: int) -> Iterator[Move]:
        message = state.logs[place][at]
        passed = state._replace(folded=_with(state.folded, place, at + 1))
        if message == MARKER:
            yield Move("pass over a marker in", name, passed)
            return
        effect = self.trace.take(state.trace, message, at, state.mended)
        yield Move("fold", message, self._traced(passed, effect))
        yield from self._begin(state, name, message, effect)

    def _begin(self, state: State, who: str, what: Any, effect: Effect) -> Iterator[Move]:
        if len(state.open) < self.configuration.open_transactions and effect.writes:
            yield Move(
                "begins and stays open:",
                (who, what),
                state._replace(open=tuple(sorted((*state.open, (who, effect))))),
            )

    def _commits(self, state: State) -> Iterator[Move]:
        for number, (who, effect) in enumerate(state.open):
            after = state._replace(open=state.open[:number] + state.open[number + 1 :])
            if who == "runs":
                after = self._taken(after, self._queue["fold<loops"])
            elif who in self.logs:
                place = self.logs.index(who)
                after = after._replace(folded=_with(after.folded, place, after.folded[place] + 1))
            else:
                after = after._replace(steps=_without(after.steps, who))
            yield Move("commits what stood open:", who, self._traced(after, effect))

    def _traced(self, state: State, effect: Effect) -> State:
        """Traceability commits: who has written over the same states meanwhile begins anew."""
        db = self.trace.db
        after = state._replace(trace=db.commit(state.trace, effect))
        if state.open:
            mine = {slot for slot, _ in effect.writes if db.slots[slot][0].name not in self.unguarded}
            kept = tuple(
                (who, other) for who, other in state.open if not any(slot in mine for slot, _ in other.writes)
            )
            after = after._replace(open=kept)
        return self._told(after, effect.told)

    # -- the step -------------------------------------------------------------

    def _step_moves(self, state: State) -> Iterator[Move]:
        reading = dict(state.steps)
        busy = {who for who, _ in state.open}
        due = self._due.get(state.trace)
        if due is None:
            rows = self.trace.db.all(state.trace, STEPS).items()
            due = self._due[state.trace] = tuple((row.key, id) for id, row in rows if row.step == CUT_STEP)
        for run, row in due:
            at = reading.get(run)
            if run in busy:
                continue
            if isinstance(at, Submits):
                yield from self._submit(state, run, at)
            else:
                yield from self._step_on(state, run, row, at)

    def _step_on(self, state: State, run: str, row: str, at: Asks | tuple[int, ...] | None) -> Iterator[Move]:
        if self.ends_first and at is None:
            ends = tuple(map(len, state.logs))
            yield Move("step reads the ends", run, _stepping(state, run, ends))
            return
        outcome: Outcome
        if isinstance(at, Asks):
            # What it has read of the run before is in the request that it will make.
            outcome = self._outcome(state, at.run, at.value, tuple(map(len, state.logs)))
            yield Move("step reads the ends", run, _stepping(state, run, outcome))
            return
        value = self.trace.db.value_of(state.trace, RUNS, run)
        outcome = self._outcome(state, run, value, at)
        if outcome == "done":
            gone = Effect(((self.trace.db.slot(STEPS, row), NONE),), ())
            yield Move("step ends", run, self._traced(_stepping(state, run, None), gone))
        elif not isinstance(outcome, str):
            yield Move("step reads the run", run, _stepping(state, run, outcome))
        elif at is not None:
            yield Move("step waits", run, _stepping(state, run, None))

    def _outcome(self, state: State, run: str, value: int, ends: tuple[int, ...] | None) -> Outcome:
        held = self.trace.db.values[value].state
        folded = {Partition(_TOPIC, n): at for n, at in enumerate(self._positions(state))}
        untaken = {kind.name: self._waiting(state.trace, kind) for kind in self.holding}
        asked = None if ends is None else {Partition(_TOPIC, n): end for n, end in enumerate(ends)}
        return self.steps.goes_on(value, held, folded, untaken, asked)

    def _waiting(self, trace: int, kind: Kind[Any]) -> tuple[Stored[Any], ...]:
        held = self.trace.db.all(trace, kind).items()
        return tuple(Stored(id, 1, one) for id, one in held if kind is PARKED or one.waits)

    def _positions(self, state: State) -> Iterable[int]:
        if not self.last_record_counts:
            return state.folded
        return tuple(
            max((n + 1 for n in range(at) if said[n] != MARKER), default=0)
            for said, at in zip(state.logs, state.folded, strict=True)
        )

    def _submit(self, state: State, run: str, asked: Submits) -> Iterator[Move]:
        effect = self._command(state, asked)
        yield Move("commit", asked, self._traced(_stepping(state, run, None), effect))
        yield from self._begin(state, run, asked, effect)

    def _command(self, state: State, asked: Submits) -> Effect:
        return self.trace.do(state.trace, asked.method, Struct.FromString(asked.request))

    # -- sites, loop, owner -----------------------------------------------------

    def _site_moves(self, state: State) -> Iterator[Move]:
        for number, site in enumerate(self.configuration.sites):
            for source in ("own", "trace", "announced", "loops"):
                queue = self._queue[f"{site}<{source}"]
                if state.queues[queue]:
                    message = state.queues[queue][0]
                    after = self._taken(state, queue)
                    yield from self._keeping(
                        queue, message, after, lambda s, m=message, n=number: self._site_takes(s, n, m)
                    )

    def _site_takes(self, state: State, site: int, message: int) -> State:
        return self._sited(state, site, self.sites[site].take(state.sites[site], message))

    def _sited(self, state: State, site: int, effect: Effect) -> State:
        store = self.sites[site].db.commit(state.sites[site], effect)
        return self._told(state._replace(sites=_with(state.sites, site, store)), effect.told, site)

    def _loops_moves(self, state: State) -> Iterator[Move]:
        for queue in self._of_loops:
            if state.queues[queue]:
                message = state.queues[queue][0]
                after = self._taken(state, queue)
                yield from self._keeping(queue, message, after, lambda s, m=message: self._loops_take(s, m))
        if self.configuration.closing:
            yield from self._answers(state)

    def _loops_take(self, state: State, message: int) -> State:
        case, told = self.loops.take(state.case, message)
        return self._told(state._replace(case=case), told)

    def _answers(self, state: State) -> Iterator[Move]:
        """People evaluate and tell, production and research answer a run; then it can close."""
        for run in self.loops.runs(state.case):
            if run.stage == "evaluate" and not run.closed:
                yield self._evaluates(state, run.run, run.lot)
            if run.stage == "notify" and not run.closed:
                yield from self._tells(state, run.run)
            said: dict[str, tuple[Message, int]] = {
                "propose": (production.CapaProposed(capa=f"capa of {run.run}"), 1),
                "approve": (production.ProcessLimitChanged(capa=f"capa of {run.run}"), 2),
                "learn": (rnd.InsightRecorded(insight="insight"), 1),
            }
            if run.stage in said and not run.closed:
                answer, seq = said[run.stage]
                message = messages.told(answer, seq, case=run.lot, run=run.run)
                yield Move("loops takes", message, self._loops_take(state, message))

    def _evaluates(self, state: State, run: str, root: str) -> Move:
        message = messages.told(production.HazardEvaluated(run=run, lot=root), 1, case=root, run=run)
        after = self._loops_take(state, message)
        for site in range(len(self.sites)):
            after = self._site_takes(after, site, message)
        return Move("person evaluates the hazard of", run, after)

    def _tells(self, state: State, run: str) -> Iterator[Move]:
        """A hospital tells everybody of a run whom it owes that."""
        for number, (name, site) in enumerate(zip(self.configuration.sites, self.sites, strict=True)):
            plans = site.db.all(state.sites[number], PLANS).values()
            owed = [plan.pseudonym for plan in plans if plan.run == run and plan.notice == "owed"]
            after = state
            for pseudonym in owed:
                notice = clinical.NoticeRecorded(
                    run=run,
                    site=name,
                    pseudonym=pseudonym,
                    outcome=clinical.NOTICE_OUTCOME_NOTIFIED,
                    at=moment(20),
                )
                after = self._site_takes(after, number, messages.fact(notice, name))
            yield Move(f"{name} tells", tuple(owed), after)

    def _owner_moves(self, state: State) -> Iterator[Move]:
        queue = self._queue["owner<trace"]
        if state.queues[queue]:
            message = state.queues[queue][0]
            event, asked = messages.event(message), messages.message(message)
            assert isinstance(asked, traceability.LotImplicated)
            answered = (asked.run, asked.lot)
            after = self._taken(state, queue)
            if answered not in state.answered:
                seq = 2 + sum(name == asked.lot for _, name in state.answered)
                told = production.LotImplicationAnswered(lot=asked.lot, run=asked.run)
                after = after._replace(answered=tuple(sorted((*state.answered, answered))))
                after = self._told(after, (messages.told(told, seq, case=event.case, run=event.run),))
            yield Move("owner decides on", message, after)

    # -- messages ---------------------------------------------------------------

    def _taken(self, state: State, queue: int) -> State:
        return state._replace(queues=_with(state.queues, queue, state.queues[queue][1:]))

    def _told(self, state: State, told: tuple[int, ...], site: int = -1) -> State:
        if not told:
            return state
        queues, logs = list(state.queues), list(state.logs)
        for message in told:
            places = self._to.get((message, site))
            if places is None:
                places = self._to[message, site] = self._routes.places(message, site)
            for to in places:
                if to >= 0:
                    queues[to] = (*queues[to], message)
                else:
                    logs[-1 - to] = (*logs[-1 - to], message)
        return state._replace(queues=tuple(queues), logs=tuple(logs))

    def _keeping(self, queue: int, message: int, after: State, take: Any) -> Iterator[Move]:
        """A message is taken; a copy of it may come again later."""
        who = self.queues[queue].split("<")[0]
        yield Move(f"{who} takes", message, take(after))
        if after.repeats:
            copies = tuple(sorted((*after.copies, (queue, message))))
            kept = after._replace(copies=copies, repeats=after.repeats - 1)
            yield Move(f"{who} takes (it will come again)", message, take(kept))

    # -- faults and people --------------------------------------------------------

    def _faults(self, state: State) -> Iterator[Move]:
        for number, (queue, message) in enumerate(state.copies):
            after = state._replace(copies=state.copies[:number] + state.copies[number + 1 :])
            yield Move("again", (self.queues[queue], message), self._delivered(after, queue, message))
        if state.repeats:
            for place, said in enumerate(state.logs):
                for message in sorted({*said} - {MARKER}):
                    less = state._replace(repeats=state.repeats - 1)
                    yield Move("publish again", message, self._published(less, place, message))
        for number, ghost in enumerate(state.ghosts):
            after = state._replace(ghosts=state.ghosts[:number] + state.ghosts[number + 1 :])
            yield Move("frozen step commits", ghost, self._traced(after, self._command(state, ghost)))
        if state.crashes:
            yield from self._crashes(state._replace(crashes=state.crashes - 1))
        if self.trace.unreadable and not state.mended and "material" not in {w for w, _ in state.open}:
            mended = state._replace(mended=True)
            yield Move("mend", "and process the dead letters again", self._mended(mended))
        if state.mended and self.trace.redrive(state.trace).told:
            yield Move("redrive", "", self._mended(state))

    def _mended(self, state: State) -> State:
        return self._traced(state, self.trace.redrive(state.trace))

    def _crashes(self, state: State) -> Iterator[Move]:
        busy = {who for who, _ in state.open}
        for run, at in state.steps:
            dead = _stepping(state, run, None)
            if run in busy:
                dead = dead._replace(open=_without(dead.open, run))
            yield Move("step dies", run, dead)
            if self.configuration.frozen and isinstance(at, Submits) and run not in busy:
                yield Move("step freezes", at, dead._replace(ghosts=tuple(sorted((*dead.ghosts, at)))))
        if self.loops.keeps_latest:
            again = self.loops.again(state.case)
            if again:
                yield Move("loops die and send again", "", self._told(state, again))

    def _delivered(self, state: State, queue: int, message: int) -> State:
        who = self.queues[queue].split("<")[0]
        if who == "fold":
            return self._traced(state, self.trace.take(state.trace, message, 0, state.mended))
        if who == "loops":
            return self._loops_take(state, message)
        return self._site_takes(state, self.configuration.sites.index(who), message)

    def _persons(self, state: State) -> Iterator[Move]:
        if self.configuration.persons:
            yield from self._explain(state)
        if self.configuration.closing:
            yield from self._follow_ups(state)

    def _explain(self, state: State) -> Iterator[Move]:
        words = {"reason": "sold without a prescription", "meaning": "I looked for them"}
        for entry in self.trace.db.all(state.trace, ENTRIES).values():
            if entry.open and not entry.explained:
                asked = api.ExplainUnattributedRequest(run=entry.run, dispense=entry.dispense, **words)
                effect = self.trace.do(state.trace, "ExplainUnattributed", asked, "head-of-quality")
                yield Move("person explains", entry.dispense, self._traced(state, effect))
        for number, site in enumerate(self.sites):
            for dispense in site.db.all(state.sites[number], SITE_DISPENSES).values():
                if dispense.runs and not dispense.explained:
                    told = clinical_api.ExplainDifferenceRequest(dispense=dispense.dispense, **words)
                    effect = site.do(state.sites[number], "ExplainDifference", told, "doctor")
                    yield Move("site explains", dispense.dispense, self._sited(state, number, effect))

    def _follow_ups(self, state: State) -> Iterator[Move]:
        for number, site in enumerate(self.sites):
            for id, row in site.db.all(state.sites[number], STEPS).items():
                if row.step == FOLLOW_UP_STEP:
                    last = clinical.MonitoringPlan(run=row.key)
                    last.due.FromJsonString(row.due.replace("+00:00", "Z"))
                    effect = site.do(state.sites[number], "EndFollowUp", last)
                    gone = Effect(((site.db.slot(STEPS, id), NONE),), ())
                    after = self._sited(self._sited(state, number, gone), number, effect)
                    yield Move("follow-up ends", row.key, after)


def _number(said: Message | int) -> int:
    if isinstance(said, int):
        return said
    return messages.fact(said) if isinstance(said, FACTS) else messages.told(said, 1)


def _with(items: tuple[Any, ...], number: int, item: Any) -> tuple[Any, ...]:
    return (*items[:number], item, *items[number + 1 :])


def _without(pairs: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    return tuple(pair for pair in pairs if pair[0] != name)


def _stepping(state: State, run: str, at: Any) -> State:
    others = _without(state.steps, run)
    return state._replace(
        steps=others if at is None else tuple(sorted((*others, (run, at)), key=lambda p: p[0]))
    )
