"""One job at a site. Every check that a site owes its patients is made here, before anything leaves."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

import numpy as np

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.domain import cohorts, definitions, models, rounds, studies
from services.exchange.domain.aggregation import keys as agreement
from services.exchange.domain.aggregation import masks
from services.exchange.domain.aggregation import site as masking
from services.exchange.domain.aggregation.context import Context
from services.exchange.domain.aggregation.messages import MaskedVector, Opening, SignedSet, Statement
from services.exchange.domain.cohorts import Cohort
from services.exchange.domain.contribution import explained
from services.exchange.domain.disclosure import budget, cells, differencing, noise
from services.exchange.domain.disclosure.budget import Grant
from services.exchange.domain.disclosure.limits import Profile, check_profile, limits_of, refuse
from services.exchange.domain.stats.protocol import Ask, Columns, Fixed, Model, Spec, Vector
from services.exchange.site import valuing
from services.exchange.site.seen import SeenStudy
from services.exchange.site.source import CohortData, CohortSource
from services.exchange.site.stored import MOST_MEMBERS, SiteKeys
from services.refusals import Refusal

_PROFILES = {
    events.DISCLOSURE_PROFILE_PROTECTED: Profile.PROTECTED,
    events.DISCLOSURE_PROFILE_PUBLIC_DATA: Profile.PUBLIC_DATA,
}
#: Seconds between looks at a topic that does not tell yet what a job rests on.
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 1.8)
#: Numbers of a table from which on a round is computed beside the event loop.
_MANY_NUMBERS = 200_000


class Kept(Protocol):
    """The cohorts that the site has opened masks over."""

    async def opened(self) -> list[Cohort]: ...

    async def keep(self, cohort: Cohort) -> None: ...


@dataclass(frozen=True)
class Site:
    """What a site brings to every job. `study` and `identities` read what the topics have told; `dataset` is
    what it offers, and `grant` what one analyst may ask of it."""

    name: str
    keys: SiteKeys
    profile: Profile
    source: CohortSource
    kept: Kept
    study: Callable[[str], Awaitable[SeenStudy]]
    identities: Callable[[], Awaitable[Mapping[str, bytes]]]
    now: Callable[[], datetime]
    dataset: str
    grant: Grant
    #: The evaluator's key as the site was told it by another way; empty where any that a study names will do.
    evaluator_key: bytes = b""
    #: Two jobs that open at once are compared one after the other.
    opening: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False)


@dataclass(frozen=True)
class Frozen:
    """What a job is computed from, fixed when it is frozen."""

    study: events.StudyRequested
    spec: Spec
    model: Model
    table: Columns
    cohort: Cohort
    commitment: bytes


class Session:
    """One job at one site. Its keys are drawn for it and live here alone."""

    def __init__(self, site: Site, task: api.FreezeTask) -> None:
        self._site, self._task = site, task
        self._keys = agreement.job_keys(secrets.token_bytes(32), task.job, site.name)
        self._frozen: Frozen | None = None
        self._session: agreement.Session | None = None
        self._commitments: dict[str, bytes] = {}
        self._memory = masking.Memory()
        self._context: Context | None = None
        #: Phase of the last round whose mask was opened; empty before.
        self._phase = ""
        self._asked_phase = ""
        #: Rounds whose mask was opened.
        self._openings = 0
        self._confirmed = False
        self._answered = valuing.Answered()
        self.compute_seconds = 0.0

    # -- freeze ------------------------------------------------------------------

    async def freeze(self) -> tuple[api.SiteKey, tuple[events.QualityMeasure, ...]]:
        """Freeze the cohort; Refusal names the first rule, and the sentences of all that are broken."""
        study = await self._agreed()
        earlier = await self._site.kept.opened()
        cohorts.check_repeats(self._task.job, earlier)
        await asyncio.to_thread(models.load, study.epsilon, study.delta)
        data = await self._site.source.cohort(study.definition)
        spec, _ = models.specification(
            study.model,
            study.specification,
            public=self._public(study),
            epsilon=study.epsilon,
            delta=study.delta,
        )
        cohort = Cohort(
            self._task.job,
            study.study,
            tuple(sorted(self._task.participants)),
            self._task.parameters_hash,
            tuple(sorted(data.members)),
            analyst=study.actor,
            dataset=self._site.dataset,
            epsilon=study.epsilon,
        )
        self._check_budget(cohort, earlier)
        _check_columns(data)
        if len(cohort.members) > MOST_MEMBERS:
            said = f"a site computes over {MOST_MEMBERS:,} patients at most: narrow the definition"
            raise Refusal("COHORT_TOO_LARGE", said, "definition")
        table = _table(data)
        cohort = await asyncio.to_thread(
            cohorts.with_values, cohort, data.members, table, spec, self._site.keys.cohort
        )
        limits = limits_of(_PROFILES[study.profile])
        refuse(await asyncio.to_thread(cohorts.breaches, cohort, earlier, data.columns, spec, limits))
        name = differencing.commitment(self._site.keys.cohort, self._task.job, frozenset(cohort.members))
        model = models.model(study.model)
        self._frozen = Frozen(study, spec, model, table, cohort, name)
        certificate = agreement.certify(self._keys, self._site.keys.identity)
        key = api.SiteKey(
            site=self._site.name,
            key=certificate.key,
            signature=certificate.signature,
            cohort_hash=name,
        )
        # Exact counts beside a noised answer would take the noise away.
        quality = [events.QualityMeasure(measure=one.measure) for one in data.quality]
        return key, tuple(quality) if study.epsilon else data.quality

    async def _agreed(self) -> events.StudyRequested:
        """The study, if it is the one that this site's owner approved, as the topic tells it."""
        task, own = self._task, self._site.name
        seen = await self._told()
        if own not in seen.approved or not seen.requested:
            said = "the owner of this site has approved no such study; ApproveStudy does"
            raise Refusal("NOT_APPROVED_HERE", said, "study")
        if seen.over:
            raise Refusal("STUDY_OVER", "the study is over", "study")
        study, named = seen.message(), set(task.participants)
        if own not in study.sites or self._site.dataset not in study.datasets:
            said = f"the study asks other datasets than {self._site.dataset}, which this site answers for"
            raise Refusal("NOT_ASKED", said, "datasets")
        refuse(cells.check_sites(len(named), limits_of(_PROFILES[study.profile])))
        if own not in named:
            raise Refusal("NOT_A_PARTICIPANT", "the job does not name this site", "participants")
        if missing := named - set(seen.approved):
            said = f"this site has not heard that the owners of {', '.join(sorted(missing))} approved"
            raise Refusal("NOT_APPROVED_HERE", said, "participants")
        hashed = definitions.parameters_hash(study.definition, study.model, study.specification)
        if hashed != task.parameters_hash:
            said = "the job is of another definition, model or specification than was approved"
            raise Refusal("PARAMETERS_DIFFER", said, "parameters_hash")
        if studies.moment(study.ethics.until, "ethics.until") <= self._site.now():
            raise Refusal("ETHICS_EXPIRED", "the ethics approval no longer holds", "ethics.until")
        if studies.moment(study.expires, "expires") <= self._site.now():
            raise Refusal("STUDY_OVER", "the study's time is over", "study")
        refuse(check_profile(_PROFILES[study.profile], self._site.profile))
        return study

    async def _told(self) -> SeenStudy:
        """What the topic tells of the study. The job may come faster than the last approval."""
        wanted = {*self._task.participants, self._site.name}
        for pause in _PAUSES:
            seen = await self._site.study(self._task.study)
            if seen.over or (seen.requested and wanted <= set(seen.approved)):
                return seen
            await asyncio.sleep(pause)
        return await self._site.study(self._task.study)

    def _public(self, study: events.StudyRequested) -> bool:
        return _PROFILES[study.profile] is Profile.PUBLIC_DATA

    # -- rounds ------------------------------------------------------------------

    async def begin(self, task: api.BeginTask) -> None:
        """Agree on secrets with the others, under the keys that the topic knows them by."""
        frozen = self._is_frozen()
        told = {one.site: one for one in task.sites}
        own = told.get(self._site.name)
        if own is None or own.cohort_hash != frozen.commitment or own.key != self._keys.public():
            said = "the key or cohort named for this site is not its own"
            raise Refusal("OWN_COHORT_DIFFERS", said, "sites")
        certificates = [
            agreement.Certificate(self._task.job, one.site, one.key, one.signature) for one in task.sites
        ]
        identities = dict(await self._site.identities())
        if identities.get(self._site.name) != self._site.keys.signing_key:
            said = "the topic of datasets names another key for this site: somebody registered in its name"
            raise Refusal("KEY_REPLACED", said, "signing_key")
        self._session = agreement.open_session(self._keys, self._site.keys.identity, certificates, identities)
        self._commitments = {one.site: one.cohort_hash for one in task.sites}

    async def answer(self, task: api.RoundTask) -> MaskedVector:
        """The site's vector under its masks."""
        frozen, session = self._is_frozen(), self._has_begun()
        if task.round > frozen.study.most_rounds:
            said = f"the study allows {frozen.study.most_rounds} rounds of one job"
            raise Refusal("TOO_MANY_ROUNDS", said, "round")
        if not set(task.participants) <= set(self._commitments):
            raise Refusal("NOT_A_PARTICIPANT", "the round names a site that froze no cohort", "participants")
        await self._check_participants(frozen, tuple(sorted(task.participants)))
        if (task.round, task.attempt) != (self._memory.round, self._memory.attempt):
            rounds.check_course(frozen.model, frozen.spec, self._phase, task.phase)
        ask = Ask(frozen.spec, task.phase, task.round, tuple(task.parameters))
        if len(frozen.cohort.members) * len(frozen.table) > _MANY_NUMBERS:
            vector, context = await asyncio.to_thread(self._computed, frozen, ask, task)
        else:
            vector, context = self._computed(frozen, ask, task)
        began = time.thread_time()
        self._memory, masked = masking.mask(self._memory, session, context, vector)
        self.compute_seconds += time.thread_time() - began
        self._context, self._asked_phase = context, task.phase
        return masked

    async def _check_participants(self, frozen: Frozen, named: tuple[str, ...]) -> None:
        """Refuses what the sums over these sites would show beside those over others."""
        if named == frozen.cohort.participants:
            return
        if frozen.cohort.opened:
            said = (
                "sums of this job were opened over other sites, and the difference would show those that "
                "left or came: go on with the same sites, or open a new job"
            )
            raise Refusal("PARTICIPANTS_CHANGED", said, "participants")
        earlier = await self._site.kept.opened()
        now = replace(frozen.cohort, participants=named)
        await asyncio.to_thread(self._check_differences, frozen, now, earlier)

    def _check_differences(self, frozen: Frozen, cohort: Cohort, earlier: list[Cohort]) -> None:
        limits = limits_of(_PROFILES[frozen.study.profile])
        refuse(cohorts.differences(cohort, earlier, limits))

    def _check_budget(self, cohort: Cohort, earlier: list[Cohort]) -> None:
        """The site counts for itself what the analyst asked of its dataset."""
        used = cohorts.spent(cohort, earlier)
        refuse(budget.check_query(self._site.grant, used, cohort.dataset, cohort.epsilon))

    def _computed(self, frozen: Frozen, ask: Ask, task: api.RoundTask) -> tuple[Vector, Context]:
        began = time.thread_time()
        layout = frozen.model.layout(ask)
        context = rounds.context(
            task.job,
            task.attempt,
            task.participants,
            frozen.cohort.parameters,
            self._commitments,
            ask,
            layout,
        )
        vector = self._noised(frozen, ask, context, frozen.model.contribute(ask, frozen.table))
        self.compute_seconds += time.thread_time() - began
        return vector, context

    def _noised(self, frozen: Frozen, ask: Ask, context: Context, vector: Vector) -> Vector:
        """The vector with this site's share of the noise, where the study asks for some.

        Its key comes from the job's secret, 32 bytes of the operating system, and the context: one attempt
        that is asked twice is answered alike, and no two attempts have the same noise.
        """
        scale = frozen.model.noise(ask)
        if scale is None:
            return vector
        key = masks.derived(self._keys.own, b"noise", context.encoded())
        return noise.gaussian(vector, noise.share(scale, len(context.participants)), key)

    async def open(self, task: api.OpenTask) -> Opening:
        """The seed of the own mask, for the one set that all participants signed."""
        frozen, session = self._is_frozen(), self._has_begun()
        if self._context is None:
            raise Refusal("NOT_MASKED", "this site has masked nothing in this job", "context")
        statements = {
            one.site: Statement(one.site, one.vector, one.seed, one.signature) for one in task.statements
        }
        signed = SignedSet(self._context, statements)
        memory, opening = masking.opening(self._memory, session, signed)
        if not self._memory.opened:  # asked again, it is the same opening
            await self._keep(frozen, self._context)
        self._memory, self._phase = memory, self._asked_phase
        return opening

    async def _keep(self, frozen: Frozen, context: Context) -> None:
        """Store what is opened before it is: the cohort with the first mask, and rounds of the budget."""
        before = frozen.cohort
        if self._openings < before.rounds:
            self._openings += 1
            return
        kept = replace(before, opened=True, participants=context.participants)
        async with self._site.opening:
            earlier = await self._site.kept.opened()
            if not before.opened:
                # Another job may have opened since the cohort was frozen.
                self._check_budget(kept, earlier)
                await asyncio.to_thread(self._check_differences, frozen, kept, earlier)
            grant, others = self._site.grant, cohorts.spent(kept, earlier)
            used = replace(others, rounds=others.rounds + self._openings)
            refuse(budget.check_round(grant, used, kept.dataset))
            kept = replace(kept, rounds=budget.held(grant, others, self._openings + 1))
            await self._site.kept.keep(kept)
        self._openings += 1
        self._frozen = replace(frozen, cohort=kept)

    async def _settle(self, frozen: Frozen) -> None:
        """The rounds that the job held and did not take are the analyst's again."""
        kept = replace(frozen.cohort, rounds=self._openings)
        if frozen.cohort.opened and kept != frozen.cohort:
            async with self._site.opening:
                await self._site.kept.keep(kept)
            self._frozen = replace(frozen, cohort=kept)

    async def confirm(self, nonce: bytes) -> bytes:
        """The site's signature that the cohort still stands, bound to the question.

        Refuses when one of the frozen members is none any more, as after a withdrawal of consent, and when
        the study is over or no longer approved. Somebody new is for the next job.
        """
        frozen = self._is_frozen()
        await self._agreed()  # the owner may have taken the approval back
        now = await self._site.source.cohort(frozen.study.definition)
        if not set(frozen.cohort.members) <= set(now.members):
            said = (
                "somebody left the cohort while the job ran; its answer is not released, and the next job "
                "waits until the cohort differs by enough patients"
            )
            raise Refusal("COHORT_CHANGED", said, "cohort")
        await self._settle(frozen)
        identity = self._site.keys.identity
        signature = agreement.confirmation(
            identity, self._task.job, self._site.name, frozen.commitment, nonce
        )
        self._confirmed = True
        return signature

    # -- valuation -----------------------------------------------------------------

    async def evaluate(self, task: api.EvaluateTask) -> api.SealedVector:
        """What this site's patients add to one sum of a coalition's fit, for the evaluator alone."""
        frozen, own = self._is_frozen(), self._site.name
        if not self._confirmed:
            raise Refusal("NOT_CONFIRMED", "contributions are valued after the job, not before", "job")
        seen = await self._site.study(self._task.study)
        study = valuing.check_agreed(seen, own, self._site.evaluator_key)
        spec = explained.specification(frozen.spec)
        asked = valuing.opened_ask(task, own, self._site.keys.sealed)
        ask = Ask(spec, asked.phase, task.round, tuple(asked.parameters))
        valuing.check_ask(self._answered, task, ask, own, set(self._commitments), study.most_rounds)
        if len(frozen.cohort.members) * len(frozen.table) > _MANY_NUMBERS:
            vector = await asyncio.to_thread(frozen.model.contribute, ask, frozen.table)
        else:
            vector = frozen.model.contribute(ask, frozen.table)
        return valuing.sealed(task, vector, own, self._site.keys.identity, study.evaluator_key)

    def _is_frozen(self) -> Frozen:
        if self._frozen is None:
            raise Refusal("NOT_FROZEN", "this site froze no cohort for the job", "job")
        return self._frozen

    def _has_begun(self) -> agreement.Session:
        if self._session is None:
            raise Refusal("NOT_BEGUN", "this site was not told whom it computes with", "job")
        return self._session


def _check_columns(data: CohortData) -> None:
    """Every column has a finite number for each member."""
    for name, values in data.columns.items():
        if len(values) != len(data.members):
            said = f"{name} has not one value for each member"
            raise Refusal("UNEQUAL_COLUMNS", said, name)
        if not np.all(np.isfinite(values)):
            raise Refusal("NOT_FINITE", f"{name} has a value that is no finite number", name)
    if data.lots and len(data.lots) != len(data.members):
        raise Refusal("UNEQUAL_COLUMNS", "there is not one lot for each member", "lot")


def _table(data: CohortData) -> Columns:
    lots = {"lot": np.array(data.lots)} if data.lots else {}
    return Fixed({**data.columns, **lots})
