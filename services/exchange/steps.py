"""The steps of the exchange: a study's jobs are opened and computed, and a study whose time is over ends.

A job lives in the memory of this process. A step that is begun again after a
restart finds a job open that nobody computes: it ends that one, and the next
job has new keys, so no mask serves twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.coordinator.conductor import Answer, Conductor, Ending, Limits
from services.exchange.coordinator.hub import Hub
from services.exchange.coordinator.room import Room
from services.exchange.domain import insights, models
from services.exchange.domain.aggregation.context import MINIMUM_SITES
from services.exchange.domain.contribution import metered, quality
from services.exchange.domain.studies import LOST, Study
from services.exchange.handlers.runs import EXPIRY_STEP, JOB_STEP, VALUATION_STEP
from services.exchange.valuations import Valuations
from services.exchange.views import DATASETS, RUNS, STUDIES
from services.kit.app import App
from services.kit.errors import Rejected, Retryable
from services.kit.ids import derived_id
from services.kit.log import get_logger
from services.kit.runners.decider import Decision
from services.kit.runners.step import Again, StepFunction
from services.kit.work import Step
from services.sayings import saying

_log = get_logger("exchange.jobs")
#: After a job that ended for the n-th time, wall seconds; doubled with each.
_LONGEST_PAUSE_SECONDS = 600.0
_LONGEST_WAIT_SECONDS = 86_400.0
_WAITS_FOR_PATIENTS = frozenset(
    {
        "COHORT_CHANGED",
        "COHORT_TOO_CLOSE",
        "VALUES_TOO_CLOSE",
        "COHORT_ISOLATES_FEW",
        "CELL_TOO_SMALL",
        "SUBSET_TOO_SMALL",
        "MODEL_TOO_LARGE",
        "QUERIES_SPENT",
        "ROUNDS_SPENT",
        "EPSILON_SPENT",
    }
)
_LOOK_SECONDS = 0.5
_PUBLISHED_SECONDS = 30.0
#: Of these a job of fewer sites has more, not less: the next one waits for all.
_HELPED_BY_ALL = ("SITES_TOO_CLOSE",)


@dataclass(frozen=True)
class Patience:
    """Wall seconds: how long a job waits for agents that are not connected, and the first pause after one
    that ended without an answer."""

    join_seconds: float = 5.0
    pause_seconds: float = 5.0


class Jobs:
    """The step `job`: opens jobs of a study and computes them, until it rests or has to wait."""

    def __init__(
        self, app: App, hub: Hub, limits: Limits, patience: Patience, valuations: Valuations
    ) -> None:
        self._app, self._hub, self._valuations = app, hub, valuations
        self._limits, self._patience = limits, patience
        #: Studies whose jobs this process computes now.
        self._busy: set[str] = set()

    def all(self) -> Mapping[str, StepFunction]:
        return {
            JOB_STEP: self._go_on,
            EXPIRY_STEP: self._expire,
            VALUATION_STEP: self._valuations.step,
        }

    async def _expire(self, step: Step) -> None:
        expired = events.StudyExpired(study=step.key)
        await self._submit("ExpireStudy", expired, f"expire/{step.key}/{step.due}")
        self._hub.stop(step.key, "the study's time was over")

    async def _go_on(self, step: Step) -> Again | None:
        if step.key in self._busy:
            return Again(_LOOK_SECONDS)  # the step was made due again while it ran
        self._busy.add(step.key)
        try:
            return await self._study(step)
        finally:
            self._busy.discard(step.key)

    async def _study(self, step: Step) -> Again | None:
        while True:
            found, run = await asyncio.gather(
                self._app.store.get(STUDIES, step.key), self._app.store.get(RUNS, step.key)
            )
            if found is None or found.state.at_rest or found.state.state == "requested" or run is None:
                return None  # an approval, or the run's opening, makes the step due again
            study = found.state
            if study.state == "computing":
                await self._end_abandoned(study)
                continue
            participants = await self._ready(study)
            if not participants:
                return Again(_LOOK_SECONDS)
            try:
                again = await self._job(study, participants)
            except Rejected as refusal:
                # The budget is spent, or somebody was faster: the study says so, and waits.
                _log.info("no job opened", study=study.study, reason=refusal.reason)
                return Again(_LONGEST_PAUSE_SECONDS)
            if again is not None:
                return again

    async def _end_abandoned(self, study: Study) -> None:
        job = study.last
        assert job is not None, "a study computes in a job"
        said = "the coordinator was restarted while the job ran; the next job has new keys"
        await self._end(study.study, job.job, Ending(LOST, said, saying=saying("COORDINATOR_RESTARTED")))

    async def _ready(self, study: Study) -> tuple[str, ...]:
        """The sites that the next job may have, after waiting for those that are missing; or none."""
        waits_for, without = _after(study)
        wanted = [site for site in study.sites if site not in without]
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience.join_seconds
        while (there := self._hub.connected(wanted)) < set(wanted) and loop.time() < end:
            await asyncio.sleep(_LOOK_SECONDS / 10)
        if len(there) < MINIMUM_SITES or not waits_for <= there:
            return ()
        return tuple(sorted(there))

    async def _job(self, study: Study, participants: tuple[str, ...]) -> Again | None:
        """Open and compute one job; Again when the next one has to wait."""
        asked_for = study.message()
        await asyncio.to_thread(models.load, asked_for.epsilon, asked_for.delta)
        number = len(study.jobs) + 1
        asked = events.JobOpened(
            study=study.study, job=derived_id("job", study.study, str(number)), participants=participants
        )
        decision = await self._submit("OpenJob", asked, f"open/{asked.job}")
        opened = events.JobOpened.FromString(decision.message)
        room = Room(study.study, opened.job, tuple(opened.participants), await self._identities(opened))
        self._hub.rooms[opened.job] = room
        conductor = Conductor(self._hub, room, asked_for, opened, self._limits)
        valued = False
        try:
            again, valued = await self._computed(conductor, study, number)
            return again
        except Rejected as refusal:
            # Refused or stopped meanwhile: nothing is released.
            _log.info("job ended by its study", study=study.study, reason=refusal.reason)
            return None
        finally:
            if not valued:
                conductor.over()

    async def _computed(self, conductor: Conductor, study: Study, number: int) -> tuple[Again | None, bool]:
        """Again when the next job has to wait; and whether this one goes on to its valuation."""
        ending = await conductor.freeze()
        await self._tell_cohorts(conductor)
        outcome: Answer | Ending = ending if ending is not None else await self._compute(conductor)
        if outcome.records:
            await self._audit(conductor, outcome)
        if isinstance(outcome, Answer):
            # After the record, which may take its time, and right before the release.
            late = await conductor.confirm()
            if late is None:
                return None, await self._publish(conductor, study, outcome)
            outcome = replace(late, records=outcome.records)
        await self._end(study.study, conductor.opened.job, outcome)
        if not outcome.suspended:
            return None, False
        if (
            not outcome.records
            and outcome.sites
            and outcome.reason not in _HELPED_BY_ALL
            and len(study.sites) - len(outcome.sites) >= MINIMUM_SITES
        ):
            return None, False  # nothing was opened, and the others may go on at once
        return Again(pause_after(outcome.reason, number, self._patience.pause_seconds)), False

    async def _compute(self, conductor: Conductor) -> Answer | Ending:
        try:
            return await conductor.compute()
        except Exception as error:  # noqa: BLE001 -- the same sums would fail again: the study ends with a reason
            _log.error("job failed", job=conductor.opened.job, exc_info=error)
            said = "the computation failed at the coordinator; its log says why"
            return Ending(
                "COORDINATOR_FAULT", said, (), conductor.records, saying=saying("COORDINATOR_FAULT")
            )

    async def _tell_cohorts(self, conductor: Conductor) -> None:
        opened = conductor.opened
        told = [
            events.CohortFrozen(
                study=opened.study,
                job=opened.job,
                site=site,
                cohort_hash=said.key.cohort_hash,
                refusals=[one.reason for one in said.refusals],
            )
            for site, said in sorted(conductor.room.cohorts.items())
        ]
        await asyncio.gather(
            *(self._submit("FreezeCohort", one, f"freeze/{one.job}/{one.site}") for one in told)
        )

    async def _audit(self, conductor: Conductor, outcome: Answer | Ending) -> None:
        """The rounds are in the log, acknowledged by the brokers, before anything is released."""
        opened = conductor.opened
        audited = events.JobAudited(study=opened.study, job=opened.job, rounds=outcome.records)
        decision = await self._submit("AuditJob", audited, f"audit/{opened.job}")
        loop = asyncio.get_running_loop()
        end = loop.time() + _PUBLISHED_SECONDS
        while decision.pending and len(await self._app.relay.positions(decision.event_ids, 1.0)) < len(
            decision.event_ids
        ):
            if loop.time() > end:
                raise Retryable("the record of the rounds does not reach the log; the answer waits for it")

    async def _publish(self, conductor: Conductor, study: Study, answer: Answer) -> bool:
        """Release the answer; True where what the sites contributed is valued first, and metered after it."""
        opened, room = conductor.opened, conductor.room
        told = insights.insight(
            derived_id("insight", opened.job), study.message(), opened, conductor.sites, answer.result
        )
        meters = [
            events.ContributionMetered(
                study=opened.study,
                job=opened.job,
                site=site,
                quality=room.cohorts[site].quality,
                quality_score=quality.score_of(room.cohorts[site].quality),
                compute_seconds=room.confirmed.get(site, 0.0),
                rounds=sum(site in record.participants for record in answer.records),
            )
            for site in conductor.sites
        ]
        consents = [site for site, said in study.approved_by.items() if said.valuation]
        why = metered.why_not(study.message(), consents, conductor.sites)
        meters = metered.without_shares(meters, why)
        answered = api.AnsweredJob(insight=told, contributions=meters, valued_later=not why)
        if why:
            await self._submit("PublishInsight", answered, f"publish/{opened.job}")
            return False
        self._valuations.keep(conductor)
        try:
            await self._submit("PublishInsight", answered, f"publish/{opened.job}")
        except BaseException:
            self._valuations.drop(conductor)
            raise
        return True

    async def _end(self, study: str, job: str, ending: Ending) -> None:
        told = events.JobEnded(
            study=study,
            job=job,
            reason=ending.reason,
            statement=ending.statement,
            sites=ending.sites,
            suspended=ending.suspended,
            statement_sayings=[ending.saying] if ending.saying else [],
        )
        await self._submit("EndJob", told, f"end/{job}")

    async def _identities(self, opened: events.JobOpened) -> Mapping[str, bytes]:
        """The signing keys of the participants, as they registered them."""
        held = await self._app.store.among(DATASETS, "site", opened.participants)
        return {item.state.site: item.state.message().signing_key for item in held}

    async def _submit(self, method: str, request: Message, request_id: str) -> Decision:
        return await self._app.decider.submit(method, request, request_id=request_id, actor="platform")


def pause_after(reason: str, number: int, first: float) -> float:
    """Wall seconds after the job of this number; up to a day where only other patients help, so that the
    jobs of a study last for weeks."""
    longest = _LONGEST_WAIT_SECONDS if reason in _WAITS_FOR_PATIENTS else _LONGEST_PAUSE_SECONDS
    return float(min(longest, first * 2 ** min(number - 1, 20)))


def _after(study: Study) -> tuple[set[str], set[str]]:
    """After the last job: sites that the next one waits for, and those that it goes on without."""
    last = study.last
    if last is None or not last.ended:
        return set(), set()
    ended = last.end()
    if last.has_opened_sums and ended.reason == "SITE_DROPPED":
        return set(ended.sites), set()
    if last.has_opened_sums or ended.reason in _HELPED_BY_ALL or ended.reason == "NOT_APPROVED_HERE":
        return set(), set()
    # Who was silent once may be back; who was silent twice is left out, connected or not.
    refused = _silent(study) if ended.reason == "SITE_DROPPED" else set(ended.sites)
    return set(), refused if len(study.sites) - len(refused) >= MINIMUM_SITES else set()


def _silent(study: Study) -> set[str]:
    """The sites for whose silence both of the last two jobs ended."""
    ends = [job.end() for job in study.jobs[-2:] if job.ended]
    named = [set(end.sites) if end.reason == "SITE_DROPPED" else set() for end in ends]
    return set.intersection(*named) if len(named) > 1 else set()
