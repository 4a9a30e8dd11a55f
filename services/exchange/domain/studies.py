"""A study: requested with its purpose, approved by each owner, computed in jobs, answered or ended.

    requested -> approved -> computing -> answered
                     ^            |
                     +- suspended <+          refused, stopped, expired, failed: from any of the others

A job's participants and parameters are fixed when it is opened. What it found
is published only after its rounds are on record. A job that ends without an
answer suspends the study, or ends it where nothing that could come would help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.exchange.v1 import events_pb2 as events
from services.exchange.domain import definitions, models
from services.exchange.domain.aggregation.context import MINIMUM_SITES
from services.exchange.domain.datasets import Dataset, check_offers
from services.exchange.domain.disclosure import budget
from services.exchange.domain.disclosure.budget import Query, Spent
from services.exchange.domain.disclosure.limits import Breach, refuse
from services.refusals import Absent, Malformed, Refusal

StudyState: TypeAlias = Literal[
    "requested",
    "approved",
    "computing",
    "suspended",
    "answered",
    "refused",
    "stopped",
    "expired",
    "failed",
]
#: Rounds of one job where nothing is said, and at most.
USUAL_ROUNDS, MOST_ROUNDS = 60, 500
#: A study that could not be answered in so many jobs ends with the last.
MOST_JOBS = 50
#: Why a job ended that nobody computes any more.
LOST = "COORDINATOR_RESTARTED"


@dataclass(frozen=True)
class Job:
    """A job; each of its events as it was told, empty before."""

    job: str
    number: int
    participants: tuple[str, ...]
    opened: bytes
    audited: bytes = b""
    ended: bytes = b""
    answered: bool = False

    @property
    def is_open(self) -> bool:
        return not self.ended and not self.answered

    @property
    def has_opened_sums(self) -> bool:
        """Is any sum on record as opened?"""
        return self.rounds > 0

    @property
    def rounds(self) -> int:
        """How many rounds are on record."""
        return len(events.JobAudited.FromString(self.audited).rounds) if self.audited else 0

    @property
    def counts(self) -> bool:
        """Is it a query of the budget? Of a job that was lost nobody knows what it opened: it is."""
        lost = bool(self.ended) and self.end().reason == LOST
        return self.is_open or self.has_opened_sums or lost

    def end(self) -> events.JobEnded:
        return events.JobEnded.FromString(self.ended)


@dataclass(frozen=True)
class Study:
    """A study; `requested`, `insight` and the parts of `approvals` and `contributions` are events as told.
    `ended_by` refused or stopped it, and `ended_meaning` is what that signature means."""

    study: str
    actor: str
    sites: tuple[str, ...]
    datasets: tuple[str, ...]
    requested: bytes
    state: StudyState = "requested"
    approvals: tuple[bytes, ...] = ()
    jobs: tuple[Job, ...] = ()
    insight: bytes = b""
    contributions: tuple[bytes, ...] = ()
    ended: str = ""
    ended_by: str = ""
    ended_meaning: str = ""

    def message(self) -> events.StudyRequested:
        return events.StudyRequested.FromString(self.requested)

    @property
    def approved_by(self) -> dict[str, events.StudyApproved]:
        found = (events.StudyApproved.FromString(one) for one in self.approvals)
        return {one.site: one for one in found}

    @property
    def at_rest(self) -> bool:
        """Is it over?"""
        return self.state in ("answered", "refused", "stopped", "expired", "failed")

    @property
    def last(self) -> Job | None:
        return self.jobs[-1] if self.jobs else None

    def queries(self, site: str) -> list[Query]:
        """Its jobs as they count in the budget of the site's dataset.

        Of a job that is open, or was lost, nobody knows the rounds: it holds all that it may take.
        """
        asked = self.message()
        counted = [job for job in self.jobs if job.counts and site in job.participants]
        return [Query(job.rounds if job.audited else asked.most_rounds, asked.epsilon) for job in counted]


def moment(stamp: Timestamp, field: str) -> datetime:
    """The moment; Malformed where it is none."""
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        said = "the moment is none between the years 1 and 9999"
        raise Malformed("OUT_OF_RANGE", said, field) from None


# -- request -----------------------------------------------------------------


def decide_request(
    held: Study | None,
    asked: events.StudyRequested,
    datasets: Mapping[str, Dataset | None],
    breaches: Callable[[str, float], list[Breach]],
    followed: Study | None,
    now: datetime,
) -> list[Message]:
    """Request a study. `datasets` are those it names; `breaches` is what one job with an epsilon would break
    of the analyst's budget for one of them."""
    if held is not None:
        raise Refusal("STUDY_EXISTS", "a study of this id is on record; give another id, or none", "study")
    for field, said in (("question", "say what is asked"), ("purpose", "say what the answer is for")):
        if not getattr(asked, field).strip():
            raise Malformed("REQUIRED", said, field)
    asked.sites[:] = _sites(asked.datasets, datasets)
    definitions.check(asked.definition)
    for found in datasets.values():
        if found is not None:
            check_offers(found, asked.definition.product, asked.definition.covariates)
    _check_ethics(asked, now)
    _fill(asked)
    refuse(one for name in asked.datasets for one in breaches(name, asked.epsilon))
    if asked.follows and (followed is None or followed.state != "answered"):
        said = "a study follows up one that was answered; leave it out for a first one"
        raise Absent("UNKNOWN_STUDY", said, "follows")
    return [asked]


def _sites(named: Sequence[str], datasets: Mapping[str, Dataset | None]) -> list[str]:
    sites = []
    for n, name in enumerate(named):
        found = datasets[name]
        if found is None:
            said = f"no dataset {name!r} is registered; list them with ListDatasets"
            raise Absent("UNKNOWN_DATASET", said, f"datasets[{n}]")
        if found.site in sites:
            said = f"{name!r} is a second dataset of {found.site}; ask each site once"
            raise Malformed("SITE_TWICE", said, f"datasets[{n}]")
        sites.append(found.site)
    if len(sites) < MINIMUM_SITES:
        said = (
            f"{len(sites)} sites cannot hide their numbers from one another; "
            f"ask datasets of at least {MINIMUM_SITES} sites"
        )
        raise Malformed("TOO_FEW_SITES", said, "datasets")
    return sorted(sites)


def _check_ethics(asked: events.StudyRequested, now: datetime) -> None:
    ethics = asked.ethics
    if not ethics.board.strip() or not ethics.reference.strip() or not ethics.HasField("until"):
        said = "an ethics board approves a study: name the board, its reference, and until when it holds"
        raise Malformed("REQUIRED", said, "ethics")
    until = moment(ethics.until, "ethics.until")
    if until <= now:
        raise Refusal("ETHICS_EXPIRED", "the ethics approval no longer holds; renew it first", "ethics.until")
    if not asked.HasField("expires"):
        asked.expires.CopyFrom(ethics.until)
    expires = moment(asked.expires, "expires")
    if not now < expires <= until:
        said = "a study ends after now, and not after its ethics approval"
        raise Malformed("OUT_OF_RANGE", said, "expires")


def _fill(asked: events.StudyRequested) -> None:
    """Check model and specification, and write out what follows from the request."""
    asked.profile = asked.profile or events.DISCLOSURE_PROFILE_PROTECTED
    public = asked.profile == events.DISCLOSURE_PROFILE_PUBLIC_DATA
    _, asked.specification = models.specification(
        asked.model, asked.specification, public=public, epsilon=asked.epsilon, delta=asked.delta
    )
    asked.most_rounds = asked.most_rounds or USUAL_ROUNDS
    if not 0 < asked.most_rounds <= MOST_ROUNDS:
        raise Malformed("OUT_OF_RANGE", f"a job has 1 to {MOST_ROUNDS} rounds", "most_rounds")
    if asked.valued and asked.epsilon:
        said = "a contribution is valued by exact sums, which noise is asked against: leave valued out"
        raise Malformed("NOT_OFFERED", said, "valued")
    asked.definition_hash = definitions.digest(asked.definition)
    asked.product = asked.definition.product


# -- what people say ---------------------------------------------------------


def decide_approve(held: Study | None, asked: events.StudyApproved, now: datetime) -> list[Message]:
    """An owner signs; a second signature of the same site changes nothing."""
    study = _going(held)
    _check_site(study, asked.site)
    if not asked.meaning.strip():
        raise Malformed("REQUIRED", "say what the signature means", "meaning")
    if asked.actor == study.actor:
        said = "who asks a question does not approve it; the owner of the dataset does"
        raise Refusal("OWN_STUDY", said, "site")
    if moment(study.message().ethics.until, "ethics.until") <= now:
        raise Refusal("ETHICS_EXPIRED", "the ethics approval no longer holds", "study")
    return [] if asked.site in study.approved_by else [asked]


def decide_refuse(held: Study | None, asked: events.StudyRefused) -> list[Message]:
    """An owner says no, or takes the approval back: nothing more is computed."""
    study = _going(held)
    _check_site(study, asked.site)
    if not asked.reason.strip():
        raise Malformed("REQUIRED", "say why the study is refused", "reason")
    return [asked]


def decide_stop(held: Study | None, asked: events.StudyStopped) -> list[Message]:
    """Somebody ends the study before it is answered."""
    _going(held)
    if not asked.reason.strip():
        raise Malformed("REQUIRED", "say why the study is stopped", "reason")
    return [asked]


def decide_expire(held: Study | None, now: datetime) -> list[Message]:
    """The study's time is over."""
    if held is None or held.at_rest or now < moment(held.message().expires, "expires"):
        return []
    return [events.StudyExpired(study=held.study)]


def _going(held: Study | None) -> Study:
    if held is None:
        raise Absent("UNKNOWN_STUDY", "no such study; list them with ListStudies", "study")
    if held.at_rest:
        raise Refusal("STUDY_OVER", f"the study is {held.state}; request another one", "study")
    return held


def _check_site(study: Study, site: str) -> None:
    if site not in study.sites:
        said = f"the study does not ask {site!r}; it asks {', '.join(study.sites)}"
        raise Absent("NOT_ASKED", said, "site")


# -- jobs --------------------------------------------------------------------


def decide_open(
    held: Study | None,
    asked: events.JobOpened,
    breaches: Callable[[str, float], list[Breach]],
    now: datetime,
) -> list[Message]:
    """Open the next job, of three approved sites or more."""
    study = _going(held)
    if study.state not in ("approved", "suspended"):
        said = f"a study that is {study.state} takes no job; every owner approves first, one job at a time"
        raise Refusal("ILLEGAL_TRANSITION", said, "study")
    if decide_expire(study, now):
        raise Refusal("STUDY_OVER", "the study's time is over", "study")
    if len(study.jobs) >= MOST_JOBS:
        raise Refusal("TOO_MANY_JOBS", f"{MOST_JOBS} jobs did not answer it; stop the study", "study")
    if len(asked.participants) < MINIMUM_SITES or not set(asked.participants) <= set(study.sites):
        raise Malformed("TOO_FEW_SITES", f"a job has at least {MINIMUM_SITES} of its sites", "participants")
    wanted = study.message()
    refuse(one for name in study.datasets for one in breaches(name, wanted.epsilon))
    asked.participants[:] = sorted(asked.participants)
    asked.number = len(study.jobs) + 1
    asked.parameters_hash = definitions.parameters_hash(wanted.definition, wanted.model, wanted.specification)
    return [asked]


def decide_freeze(held: Study | None, asked: events.CohortFrozen) -> list[Message]:
    """A participant's cohort is fixed, or its refusal noted."""
    _open_job(held, asked.job)
    return [asked]


def decide_audit(held: Study | None, asked: events.JobAudited) -> list[Message]:
    """The job's rounds go on record, once; also of a study that was ended while it computed."""
    job = held.last if held is not None and held.at_rest else _open_job(held, asked.job)
    if job is None or job.job != asked.job:
        raise Refusal("JOB_OVER", "the job is over, or was never opened", "job")
    return [] if job.audited else [asked]


def decide_end(held: Study | None, asked: events.JobEnded) -> list[Message]:
    """The job ends without an answer; the last that a study may have ends the study."""
    job = _open_job(held, asked.job)
    asked.suspended = asked.suspended and job.number < MOST_JOBS
    return [asked]


def decide_publish(held: Study | None, asked: events.InsightPublished) -> list[Message]:
    """The answer goes out: only after its rounds are on record."""
    job = _open_job(held, asked.job)
    if not job.has_opened_sums:
        raise Refusal("NOT_AUDITED", "a job's rounds are on record before its answer is released", "job")
    return [asked]


def decide_meter(held: Study | None, asked: events.ContributionMetered) -> list[Message]:
    """What a site contributed to the answer, once."""
    if held is None or held.state != "answered":
        raise Refusal("NOT_ANSWERED", "contributions are metered of an answer", "study")
    known = (events.ContributionMetered.FromString(one) for one in held.contributions)
    return [] if any((one.job, one.site) == (asked.job, asked.site) for one in known) else [asked]


def _open_job(held: Study | None, name: str) -> Job:
    study = _going(held)
    job = study.last
    if job is None or job.job != name or not job.is_open:
        raise Refusal("JOB_OVER", "the job is over, or was never opened", "job")
    return job


# -- evolve ------------------------------------------------------------------

_ENDS: Mapping[type[Message], StudyState] = {
    events.StudyRefused: "refused",
    events.StudyStopped: "stopped",
    events.StudyExpired: "expired",
}


def evolve(held: Study | None, event: Message) -> Study:
    """The study after one of its own events."""
    if isinstance(event, events.StudyRequested):
        sites, datasets = tuple(event.sites), tuple(event.datasets)
        return Study(event.study, event.actor, sites, datasets, _kept(event))
    assert held is not None, f"{type(event).__name__} before its request"
    if type(event) in _ENDS:
        by, meaning = getattr(event, "actor", ""), getattr(event, "meaning", "")
        return replace(held, state=_ENDS[type(event)], ended=_why(event), ended_by=by, ended_meaning=meaning)
    if isinstance(event, events.StudyApproved):
        after = replace(held, approvals=(*held.approvals, _kept(event)))
        everybody = set(after.approved_by) >= set(held.sites)
        return replace(after, state="approved") if everybody else after
    return _evolve_job(held, event)


def _evolve_job(held: Study, event: Message) -> Study:
    match event:
        case events.JobOpened():
            job = Job(event.job, event.number, tuple(event.participants), _kept(event))
            return replace(held, state="computing", jobs=(*held.jobs, job))
        case events.JobAudited():
            return _with_job(held, lambda job: replace(job, audited=_kept(event)))
        case events.JobEnded():
            state: StudyState = "suspended" if event.suspended else "failed"
            after = _with_job(held, lambda job: replace(job, ended=_kept(event)))
            return replace(after, state=state, ended=event.statement)
        case events.InsightPublished():
            after = _with_job(held, lambda job: replace(job, answered=True))
            return replace(after, state="answered", insight=_kept(event), ended="")
        case events.ContributionMetered():
            return replace(held, contributions=(*held.contributions, _kept(event)))
    return held


def _with_job(study: Study, change: Callable[[Job], Job]) -> Study:
    return replace(study, jobs=(*study.jobs[:-1], change(study.jobs[-1])))


def _kept(event: Message) -> bytes:
    return event.SerializeToString(deterministic=True)


def _why(event: Message) -> str:
    return str(getattr(event, "reason", "its time was over"))


# -- budget ------------------------------------------------------------------


def spent(dataset: Dataset, studies: Iterable[Study]) -> Spent:
    """What an analyst has asked of a dataset; `studies` are all of the analyst's."""
    named = (study for study in studies if dataset.dataset in study.datasets)
    return budget.spent(one for study in named for one in study.queries(dataset.site))


def budget_breaches(dataset: Dataset, studies: Iterable[Study], epsilon: float) -> list[Breach]:
    """What one job more, with this epsilon, would break of the analyst's budget for a dataset."""
    return budget.check_query(dataset.grant, spent(dataset, studies), dataset.dataset, epsilon)
