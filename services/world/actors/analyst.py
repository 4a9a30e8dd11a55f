"""The analyst who asks the hospitals together, and the owners of their data who let it take part.

Each question has its purpose and its ethics approval. Some are asked as they
must not be: the platform refuses them by the right rule, or an owner does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.world.actors.desk import Desk
from services.world.ids import stamp
from services.world.plans import BAND, GENOTYPE, MARKETING, WRONG_REQUESTS, study_id
from services.world.platform_api import Refused
from services.world.timing import LOOK_SECONDS
from services.world.treatment import BLEEDING, CARRIER, DAYS, INR, INR_UNIT, TAG, UNIT, WARM

THINKING = timedelta(minutes=30)
_OVER = (
    api.STUDY_STATE_ANSWERED,
    api.STUDY_STATE_REFUSED,
    api.STUDY_STATE_STOPPED,
    api.STUDY_STATE_EXPIRED,
    api.STUDY_STATE_FAILED,
)
_PURPOSES = {
    BAND: "to decide whether the temperature of the fermentation is narrowed",
    GENOTYPE: "to decide whether the label advises dosing by genotype",
    MARKETING: "to find patients for a marketing campaign",
}
Spoil = Callable[[api.RequestStudyRequest], None]


@dataclass(frozen=True)
class Question:
    """What an analyst knows: the product, its lots, and when it was first taken."""

    product: str
    lots: Sequence[str]
    sites: Sequence[str]
    begin: datetime
    end: datetime


def asked(question: Question, seed: int, name: str, now: datetime) -> api.RequestStudyRequest:
    """A study as it is rightly asked for."""
    genotype = name == GENOTYPE
    request = api.RequestStudyRequest(
        study=study_id(seed, name),
        question=(
            f"Do carriers of {CARRIER} respond less?"
            if genotype
            else "Do lots of warm fermentations go with more nose bleeds?"
        ),
        purpose=_PURPOSES[name],
        datasets=[dataset(site) for site in question.sites],
        definition=_definition(question, name),
        model="linear" if genotype else "logistic",
        specification=json.dumps(_specification(question, name), sort_keys=True),
        ethics=events.EthicsApproval(board="joint ethics board", reference=f"2026-{name}"),
        valued=not genotype,
    )
    request.ethics.until.CopyFrom(stamp(now + timedelta(days=3650)))
    request.expires.CopyFrom(stamp(now + timedelta(days=30)))
    return request


def dataset(site: str) -> str:
    """What a hospital's agent calls its dataset."""
    return f"{site}/routine"


def _definition(question: Question, name: str) -> cohort.CohortDefinition:
    found = cohort.CohortDefinition(
        definition=name,
        version=1,
        product=question.product,
        covariates=[cohort.COVARIATE_AGE_BAND, cohort.COVARIATE_SEX],
        age_bands=[18, 65],
    )
    getattr(found, "from").CopyFrom(stamp(question.begin))
    found.until.CopyFrom(stamp(question.end))
    if name == GENOTYPE:
        found.exposure.CopyFrom(cohort.CohortExposure(kind=cohort.EXPOSURE_KIND_GENOTYPE, genotype=CARRIER))
        found.outcome.CopyFrom(
            cohort.CohortOutcome(kind=cohort.OUTCOME_KIND_LAB_CHANGE, lab=INR, unit=INR_UNIT, days=DAYS)
        )
    else:
        found.exposure.CopyFrom(
            cohort.CohortExposure(kind=cohort.EXPOSURE_KIND_PARAMETER_BAND, tag=TAG, low=WARM, unit=UNIT)
        )
        found.outcome.CopyFrom(
            cohort.CohortOutcome(kind=cohort.OUTCOME_KIND_ADVERSE_EVENT, terms=[BLEEDING], days=DAYS)
        )
    return found


def _specification(question: Question, name: str) -> dict[str, Any]:
    terms = [{"column": one, "low": 0.0, "high": 1.0} for one in ("exposed", "female", "age_65")]
    if name == GENOTYPE:
        return {"outcome": {"column": "change", "low": -10.0, "high": 15.0}, "terms": terms}
    return {
        "outcome": {"column": "event"},
        "terms": terms,
        "errors": "cluster",
        "clusters": {
            "column": "lot",
            "shared": list(question.lots),
            "others": "refuse",
            "alone": "local",
            "exposure": "exposed",
        },
    }


def _no_purpose(request: api.RequestStudyRequest) -> None:
    request.purpose = ""


def _two_sites(request: api.RequestStudyRequest) -> None:
    del request.datasets[2:]


def _no_ethics(request: api.RequestStudyRequest) -> None:
    request.ethics.Clear()


def _low_above_high(request: api.RequestStudyRequest) -> None:
    request.definition.exposure.high = WARM - 1


_SPOILS: dict[str, Spoil] = {
    "no-purpose": _no_purpose,
    "two-sites": _two_sites,
    "no-ethics": _no_ethics,
    "band-upside-down": _low_above_high,
}


class Analyst:
    """Asks one question after the other; `wrong` holds what the platform let pass."""

    def __init__(self, desk: Desk, question: Question) -> None:
        self._desk, self._question = desk, question
        self.wrong: list[str] = []
        self.done = False

    async def work(self) -> None:
        for name, rule in WRONG_REQUESTS:
            await self._err(name, _SPOILS[name], rule)
        for name in (BAND, GENOTYPE, MARKETING):
            await self._ask(name)
        self.done = True

    async def _err(self, name: str, spoil: Spoil, rule: str) -> None:
        request = asked(self._question, self._desk.seed, BAND, self._desk.clock.now())
        request.study = study_id(self._desk.seed, name)
        spoil(request)
        try:
            await self._request(name, request)
        except Refused as refusal:
            if refusal.reason == rule:
                self._desk.say(f"a study was refused: {name}: {rule}")
            else:
                self.wrong.append(f"the study {name} was refused by {refusal.reason}, and not by {rule}")
            return
        self.wrong.append(f"the study {name} was not refused ({rule})")

    async def _ask(self, name: str) -> None:
        """Ask, and wait until the study is over."""
        request = asked(self._question, self._desk.seed, name, self._desk.clock.now())
        if not self._desk.progress.is_done(f"study:{name}"):
            await self._request(name, request)
            self._desk.progress.finish(f"study:{name}")
            self._desk.say(f"study {name} requested: {request.question}")
        exchange = self._desk.platform.exchange
        while True:
            answer = await self._desk.call(exchange.GetStudy, api.GetStudyRequest(study=request.study))
            if answer.study.state in _OVER:
                said = answer.study.insight.statement or answer.study.statement
                self._desk.say(f"study {name} is over: {said}")
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _request(self, name: str, request: api.RequestStudyRequest) -> None:
        request.request_id = self._desk.request("study", name)
        await self._desk.call(self._desk.platform.exchange.RequestStudy, request)


class Owner:
    """The owner of a hospital's data: reads what it is asked for, and approves or refuses."""

    def __init__(self, desk: Desk, site: str) -> None:
        self._desk, self._site = desk, site
        self._seen: dict[str, datetime] = {}

    async def run(self) -> None:
        while True:
            for study in await self._waiting():
                now = self._desk.clock.now()
                if now - self._seen.setdefault(study.requested.study, now) >= THINKING:
                    try:
                        await self._judge(study.requested)
                    except Refused as refusal:
                        self._desk.say(f"{self._desk.actor}: {refusal}")
            await asyncio.sleep(LOOK_SECONDS)

    async def _waiting(self) -> list[api.Study]:
        desk = self._desk
        request = api.ListStudiesRequest(state=api.STUDY_STATE_REQUESTED, site=self._site)
        return [
            study
            async for page in desk.platform.pages(desk.platform.exchange.ListStudies, request, desk.actor)
            for study in page.studies
            if self._site not in {one.site for one in study.approvals}
        ]

    async def _judge(self, requested: events.StudyRequested) -> None:
        desk, exchange, study = self._desk, self._desk.platform.exchange, requested.study
        if requested.purpose == _PURPOSES[MARKETING]:
            refusal = api.RefuseStudyRequest(
                request_id=desk.request("refuse", study),
                study=study,
                site=self._site,
                reason="Our patients' records are for research, and not for marketing.",
            )
            await desk.call(exchange.RefuseStudy, refusal)
            return
        approval = api.ApproveStudyRequest(
            request_id=desk.request("approve", study),
            study=study,
            site=self._site,
            meaning="I have read purpose, cohort and model, and let our dataset take part.",
            valuation=True,
        )
        await desk.call(exchange.ApproveStudy, approval)
