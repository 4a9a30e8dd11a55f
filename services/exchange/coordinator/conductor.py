"""Computes one job: the sites freeze their cohorts, answer round after round, and confirm.

What ends a job early is a reason with a sentence. A participant that drops out
or refuses before any sum was opened costs a new attempt without it, if three
are left; later the job is suspended until the site is back: the same sums over
the others would show, by their difference, the numbers of the one that left.
One site's refusal, whatever it is, does not end a study that three others can
answer.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.coordinator.hub import Hub
from services.exchange.coordinator.room import Room
from services.exchange.domain import insights, models, rounds
from services.exchange.domain.aggregation import coordinator as aggregation
from services.exchange.domain.aggregation.context import MINIMUM_SITES
from services.exchange.domain.stats.protocol import Ask, Model, Result, Vector
from services.refusals import Refusal
from services.sayings import saying

_Task = api.WorkResponse
#: Reasons after which another job may do better; all others end the study.
PASSING = frozenset(
    {
        "TOO_FEW_SITES",
        "SITE_DROPPED",
        "SITE_RESTARTED",
        "SITE_BUSY",
        "COORDINATOR_RESTARTED",
        "COHORT_CHANGED",
        "COHORT_TOO_CLOSE",
        "VALUES_TOO_CLOSE",
        "SITES_TOO_CLOSE",
        "TOTAL_IS_NOISE",
        "COHORT_UNAVAILABLE",
        "SITE_UNAVAILABLE",
        "NOT_APPROVED_HERE",
        "CELL_TOO_SMALL",
        "SUBSET_TOO_SMALL",
        "MODEL_TOO_LARGE",
        "COHORT_ISOLATES_FEW",
        "QUERIES_SPENT",
        "ROUNDS_SPENT",
        "EPSILON_SPENT",
        "JOB_REPEATED",
        "SECOND_COHORT",
    }
)


#: How often words that have grown old are asked for again.
_CONFIRMATIONS = 4


@dataclass(frozen=True)
class Limits:
    """Wall seconds that sites are waited for."""

    freeze_seconds: float = 60.0
    round_seconds: float = 20.0
    #: How old a site's word that its cohort still stands may be when the answer is released.
    fresh_seconds: float = 5.0


@dataclass(frozen=True)
class Answer:
    """A job that was computed to its end; nothing of it is released yet."""

    result: Result
    records: tuple[events.RoundRecord, ...]


@dataclass(frozen=True)
class Ending:
    """A job that has no answer: why, and whom the reason names."""

    reason: str
    statement: str
    sites: tuple[str, ...] = ()
    records: tuple[events.RoundRecord, ...] = ()
    #: Are three sites left that the reason does not name?
    others: bool = False
    #: The statement in parts; None where a site said it.
    saying: common.Saying | None = None

    @property
    def suspended(self) -> bool:
        return self.reason in PASSING or self.others


class Ended(Exception):
    """Ends the job from within."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


@dataclass
class Conductor:
    """Computes one job in its room."""

    hub: Hub
    room: Room
    study: events.StudyRequested
    opened: events.JobOpened
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        self._records: list[events.RoundRecord] = []
        self._sites: tuple[str, ...] = tuple(sorted(self.opened.participants))
        self._model: Model = models.model(self.study.model)

    # -- the job ---------------------------------------------------------------

    async def freeze(self) -> Ending | None:
        """Ask every participant for its cohort; None when all have frozen one."""
        room, job = self.room, self.opened
        for site in self._sites:
            self._ask(
                site,
                _Task(
                    freeze=api.FreezeTask(
                        study=job.study,
                        job=job.job,
                        participants=job.participants,
                        parameters_hash=job.parameters_hash,
                    )
                ),
            )

        def all_said() -> bool:
            return room.lacks(self._sites) or all(site in room.cohorts for site in self._sites)

        await room.until(all_said, self.limits.freeze_seconds)
        try:
            self._check_going()
        except Ended as ended:
            return ended.ending
        refusing = [site for site in self._sites if site in room.cohorts and room.cohorts[site].refusals]
        if refusing:
            first = room.cohorts[refusing[0]].refusals[0]
            told = f"{', '.join(refusing)}: {first.statement}"
            return Ending(first.reason, told, tuple(refusing), others=self._others(refusing))
        silent = [site for site in self._sites if site not in room.cohorts]
        if silent:
            said = f"{', '.join(silent)} froze no cohort in time; the next job waits for {_all(silent)}"
            parts = saying("FROZE_NO_COHORT", sites=", ".join(silent))
            return Ending("SITE_DROPPED", said, tuple(silent), saying=parts)
        return None

    async def compute(self) -> Answer | Ending:
        """The rounds. What they found is released when they are on record, and every cohort is confirmed."""
        try:
            result = await self._rounds()
        except Ended as ended:
            return replace(ended.ending, records=self.records)
        except Refusal as refusal:
            # The sums do not carry what was asked, or a rule of the masks was broken.
            return Ending(refusal.reason, refusal.description, (), self.records)
        return Answer(result, self.records)

    async def confirm(self) -> Ending | None:
        """Every site signs that its cohort still stands; None when all have.

        A word that has grown old while others were waited for is asked for again: whoever withdraws up to
        `fresh_seconds` before the release is not in the answer.
        """
        try:
            for _ in range(_CONFIRMATIONS):
                old = [site for site in self._sites if self._is_old(site)]
                if not old:
                    return None
                await self._confirmed(old)
        except Ended as ended:
            return ended.ending
        said = "the sites did not confirm their cohorts within one another's time; the next job follows"
        return Ending("SITE_DROPPED", said, self._sites, saying=saying("NOT_CONFIRMED_IN_TIME"))

    def over(self) -> None:
        """Let the participants forget the job."""
        self.hub.rooms.pop(self.room.job, None)
        for site in self.opened.participants:
            self.hub.send(site, _Task(over=api.OverTask(job=self.room.job)))

    async def _rounds(self) -> Result:
        said = models.specification(
            self.study.model,
            self.study.specification,
            public=self.study.profile == events.DISCLOSURE_PROFILE_PUBLIC_DATA,
            epsilon=self.study.epsilon,
            delta=self.study.delta,
        )
        state = self._model.start(said[0])
        keys = [self.room.cohorts[site].key for site in self._sites]
        for site in self._sites:
            self.hub.send(site, _Task(begin=api.BeginTask(job=self.room.job, sites=keys)))
        while (ask := self._model.ask(state)) is not None:
            if len(self._records) >= self.study.most_rounds:
                said_ = f"no answer in {self.study.most_rounds} rounds; ask for more, or for a simpler model"
                parts = saying("NO_ANSWER_IN_ROUNDS", rounds=self.study.most_rounds)
                raise Ended(Ending("TOO_MANY_ROUNDS", said_, saying=parts))
            state = self._model.take(state, await self._round(ask))
        return self._model.result(state)

    def _is_old(self, site: str) -> bool:
        at = self.room.confirmed_at.get(site)
        return at is None or asyncio.get_running_loop().time() - at > self.limits.fresh_seconds

    async def _confirmed(self, sites: Sequence[str]) -> None:
        room = self.room
        for site in sites:
            room.confirmed_at.pop(site, None)
            nonce = room.nonces[site] = secrets.token_bytes(16)
            self._ask(site, _Task(confirm=api.ConfirmTask(job=room.job, nonce=nonce)))
        await room.until(
            lambda: room.ends(self._sites) or all(site in room.confirmed_at for site in sites),
            self.limits.freeze_seconds,
        )
        self._check_declined()
        silent = [site for site in sites if site not in room.confirmed_at]
        if silent:
            said = f"{', '.join(silent)} did not confirm that the cohort is still the frozen one"
            parts = saying("COHORT_NOT_CONFIRMED", sites=", ".join(silent))
            raise Ended(Ending("SITE_DROPPED", said, tuple(silent), saying=parts))

    # -- one round ---------------------------------------------------------------

    async def _round(self, ask: Ask) -> Vector:
        """The total of one round, of all participants that are left."""
        attempt, began = 1, self.clock()
        while (total := await self._attempt(ask, attempt)) is None:
            attempt += 1
        self._note(ask, attempt, total, self.clock() - began)
        return total

    async def _attempt(self, ask: Ask, attempt: int) -> Vector | None:
        """The total; None when a site dropped out and the others try again."""
        room, layout = self.room, self._model.layout(ask)
        commitments = {site: room.cohorts[site].key.cohort_hash for site in self._sites}
        context = rounds.context(
            room.job, attempt, self._sites, self.opened.parameters_hash, commitments, ask, layout
        )
        now = room.round = aggregation.Round(context)
        for site in self._sites:
            self._ask(site, _Task(round=_round_task(room.job, attempt, self._sites, ask)))
        await room.until(self._has_vectors, self.limits.round_seconds)
        now = self._now()
        if now.missing_vectors() or room.ends(self._sites):
            self._drop(now)
            return None
        signed = aggregation.signed_set(now)
        for site in self._sites:
            self._ask(site, _Task(open=_open_task(context.round, attempt, room.job, signed.statements)))
        await room.until(
            lambda: room.ends(self._sites) or not self._now().missing_openings(),
            self.limits.round_seconds,
        )
        now = self._now()
        if now.missing_openings():
            self._check_declined()
            raise self._dropped(now.missing_openings())
        return rounds.vector(layout, aggregation.total(now))

    def _now(self) -> aggregation.Round:
        assert self.room.round is not None, "set before anything is asked"
        return self.room.round

    def _has_vectors(self) -> bool:
        """Is there nobody whose vector is worth waiting for?

        Without a site the others may go on as long as no sum was opened: later it is waited for.
        """
        room, missing = self.room, set(self._now().missing_vectors())
        if self._records:
            return not missing or room.ends(self._sites)
        return bool(room.stopped) or not missing - room.gone - room.declined.keys()

    def _drop(self, now: aggregation.Round) -> None:
        """Go on without the sites that did not answer, or refused, if that tells nothing of them."""
        missing = set(now.missing_vectors()) | (self.room.declined.keys() & set(self._sites))
        if self._records or self.room.stopped:
            self._check_declined()
            raise self._dropped(sorted(missing))
        remaining = tuple(site for site in self._sites if site not in missing)
        if len(remaining) < MINIMUM_SITES:
            self._check_declined()
            said = (
                f"{', '.join(sorted(missing))} dropped out and {len(remaining)} sites are left; a sum needs "
                f"{MINIMUM_SITES}: the next job waits for more"
            )
            parts = saying(
                "TOO_FEW_LEFT",
                sites=", ".join(sorted(missing)),
                left=len(remaining),
                least=MINIMUM_SITES,
            )
            raise Ended(Ending("TOO_FEW_SITES", said, tuple(sorted(missing)), saying=parts))
        self._sites = remaining

    def _dropped(self, sites: Sequence[str]) -> Ended:
        said = (
            f"{', '.join(sites)} dropped out after sums had been opened: the same sums over the others would "
            f"show the numbers of {_all(sites)}; the next job waits until {_all(sites)} is back"
        )
        parts = saying("DROPPED_AFTER_SUMS", sites=", ".join(sites))
        return Ended(Ending("SITE_DROPPED", said, tuple(sites), saying=parts))

    def _check_declined(self) -> None:
        if self.room.stopped:
            raise Ended(Ending("STUDY_OVER", self.room.stopped))
        declined = [site for site in self._sites if site in self.room.declined]
        if declined:
            first = self.room.declined[declined[0]]
            told = f"{declined[0]}: {first.statement}"
            raise Ended(Ending(first.reason, told, tuple(declined), others=self._others(declined)))

    def _others(self, sites: Sequence[str]) -> bool:
        """Are enough left without these?"""
        return len(self._sites) - len(sites) >= MINIMUM_SITES

    def _check_going(self) -> None:
        self._check_declined()
        gone = sorted(self.room.gone & set(self._sites))
        if gone:
            said = f"{', '.join(gone)} dropped out; the next job waits until {_all(gone)} is back"
            parts = saying("DROPPED_OUT", sites=", ".join(gone))
            raise Ended(Ending("SITE_DROPPED", said, tuple(gone), saying=parts))

    def _note(self, ask: Ask, attempt: int, total: Vector, seconds: float) -> None:
        seeds = {site: opening.seed for site, opening in self._now().openings.items()}
        record = events.RoundRecord(
            round=ask.round,
            attempt=attempt,
            participants=self._sites,
            asked_hash=bytes.fromhex(ask.digest()),
            sum_hash=insights.sum_hash(total.tobytes(), seeds),
            numbers=len(total),
            seconds=seconds,
        )
        self._records.append(record)
        self.room.taken = ask.round

    def _ask(self, site: str, task: _Task) -> None:
        self.hub.send(site, task)

    @property
    def records(self) -> tuple[events.RoundRecord, ...]:
        """The rounds so far."""
        return tuple(self._records)

    @property
    def sites(self) -> tuple[str, ...]:
        """The participants that are left."""
        return self._sites


def _all(sites: Sequence[str]) -> str:
    return "it" if len(sites) == 1 else "each of them"


def _round_task(job: str, attempt: int, sites: Sequence[str], ask: Ask) -> api.RoundTask:
    return api.RoundTask(
        job=job,
        round=ask.round,
        attempt=attempt,
        participants=sites,
        phase=ask.phase,
        parameters=ask.parameters,
    )


def _open_task(round_: int, attempt: int, job: str, statements: object) -> api.OpenTask:
    assert isinstance(statements, dict)
    return api.OpenTask(
        job=job,
        round=round_,
        attempt=attempt,
        statements=[
            api.RoundStatement(site=one.site, vector=one.vector, seed=one.seed, signature=one.signature)
            for one in statements.values()
        ],
    )
