"""What an analyst, the owners of three datasets and research do in the evidence loop, as calls of the API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from pharmaloop.exchange.v1 import service_pb2 as exchange_api
from pharmaloop.rnd.v1 import service_pb2 as rnd_api
from services.exchange.views import DATASETS, EVALUATOR, EVALUATORS, STUDIES
from services.rnd.views import FINDINGS, PRODUCTS
from tests.reliability.sim.clockwork import START
from tests.reliability.sim.inputs import Input
from tests.reliability.sim.process import STUDY_SITES
from tests.reliability.sim.tale import KNOWN, Study, Tale
from tests.reliability.sim.transfers import done, product
from tests.unit.exchange.hospitals import request

if TYPE_CHECKING:
    from tests.reliability.sim.world import World

#: When a study's time is over, if nothing else ends it: long after everything else of a world.
EXPIRES = timedelta(days=400)
_OVER = ("STUDY_OVER",)
_DECIDED = ("TAKEN_UP", "DECLINED")


def told(tale: Tale) -> Iterator[Input]:
    for study in tale.studies:
        yield Input(
            f"request {study.study}", "exchange", "RequestStudy", _request(study), ready=_offered, actor="eve"
        )
    if tale.studies:
        yield product(KNOWN, "tablet")


def _offered(world: World) -> bool:
    """Have all three sites registered their datasets, and the evaluator itself?"""
    exchange = world.databases["exchange"]
    offered = {one.site for one in exchange.states(DATASETS).values()}
    return offered >= set(STUDY_SITES) and EVALUATOR in exchange.states(EVALUATORS)


def _request(study: Study) -> exchange_api.RequestStudyRequest:
    asked = request(study.study, START, STUDY_SITES)
    asked.definition.product = study.product
    asked.definition.exposure.lots[:] = [f"{study.product}/L-01"]
    asked.expires.FromDatetime(START + EXPIRES)
    asked.valued = bool(study.valuing)
    return asked


def reactions(world: World) -> Iterator[Input]:
    for study in world.tale.studies:
        if done(world, f"request {study.study}"):
            yield from _owners(world, study)
            yield from _analyst(world, study)
            yield from _research(world, study)


def _owners(world: World, study: Study) -> Iterator[Input]:
    """Owners approve, all but the last where it is not to be."""
    first, *others = STUDY_SITES
    if study.fate == "refused":
        refuse = exchange_api.RefuseStudyRequest(study=study.study, site=first, reason="Not our patients.")
        yield Input(f"refuse {study.study}", "exchange", "RefuseStudy", refuse, 1, actor=f"owner of {first}")
        return
    for site in others if study.fate in ("stopped", "expired") else STUDY_SITES:
        approve = exchange_api.ApproveStudyRequest(
            study=study.study, site=site, meaning="You may ask us.", valuation=study.agrees(site)
        )
        late = _OVER if study.fate in ("stopped", "halted") else ()
        label = f"approve {study.study} {site}"
        yield Input(label, "exchange", "ApproveStudy", approve, 1, actor=f"owner of {site}", late=late)


def _analyst(world: World, study: Study) -> Iterator[Input]:
    if study.fate in ("stopped", "halted"):
        stop = exchange_api.StopStudyRequest(study=study.study, reason="The question is answered elsewhere.")
        late = _OVER if study.fate == "halted" else ()
        yield Input(f"stop {study.study}", "exchange", "StopStudy", stop, 1, actor="eve", late=late)


def _research(world: World, study: Study) -> Iterator[Input]:
    """What research does about a finding that the rule does not take up."""
    waiting = [
        insight
        for insight, one in world.databases["rnd"].states(FINDINGS).items()
        if one.message().study == study.study
    ]
    for insight in waiting:
        late = _DECIDED if study.fate == "contested" else ()
        if study.fate == "contested":
            yield product(study.product, study.study)
            if study.product in world.databases["rnd"].states(PRODUCTS):
                take = rnd_api.TakeUpInsightRequest(insight=insight)
                yield Input(f"take up {insight}", "rnd", "TakeUpInsight", take, 1, actor="cy", late=late)
        decline = rnd_api.DeclineInsightRequest(insight=insight, reason="Too small to act on.")
        if study.fate in ("declined", "contested"):
            yield Input(f"decline {insight}", "rnd", "DeclineInsight", decline, 1, actor="ben", late=late)


def answered(world: World, study: Study) -> bool:
    held = world.databases["exchange"].states(STUDIES).get(study.study)
    return held is not None and held.state == "answered"
