"""Judges runs online and opens deviations; what it lacks yet, it waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import cast

from pharmaloop.production.v1 import events_pb2 as events
from services.kit.envelope import Event
from services.kit.ids import derived_id
from services.kit.log import get_logger
from services.kit.work import Work, moment_text
from services.production.domain import deviation, samples, severity, watch
from services.production.domain.growing import Growing
from services.production.domain.limits import Limits
from services.production.domain.watch import Basis, Parameters, Product, Verdict, Watch
from services.production.handlers.models import opened
from services.production.views import LOTS, PARAMETERS, PRODUCTS, SEVERITY_RULES, WATCHES, run_id

_log = get_logger("production.detector")


class _Memory(threading.local):
    """What each thread remembers of the runs that it judged; a rebuild has a thread of its own."""

    def __init__(self) -> None:
        self.growing = Growing()


_memory = _Memory()


def on_readings_recorded(work: Work, event: Event) -> None:
    batch = cast(events.ReadingsRecorded, event.message)
    id = run_id(batch.lot, batch.equipment)
    held = work.get(WATCHES, id) or Watch(batch.lot, batch.equipment)
    _parameters(work, held)
    work.expect(LOTS, held.lot)
    work.load(SEVERITY_RULES, [held.product] if held.product else [])
    if work.ahead:
        return
    grown = watch.taken(held, samples.of(batch), moment_text(event.created))
    if grown.samples.points > samples.MAX_POINTS:
        _log.warning("run too long, the rest is not judged", lot=batch.lot, equipment=batch.equipment)
    elif grown != held:
        _judge(work, id, grown)


def on_lot_started(work: Work, event: Event) -> None:
    started = cast(events.LotStarted, event.message)
    id, at = run_id(started.lot, started.equipment), moment_text(event.time)
    held = work.get(WATCHES, id) or Watch(started.lot, started.equipment)
    product = watch.registered(_product(work, started.product), id, at)
    work.put(PRODUCTS, product.product, product)
    _judge(work, id, watch.begun(held, started.product, at, moment_text(event.created)))


def on_golden_model_trained(work: Work, event: Event) -> None:
    trained = cast(events.GoldenModelTrained, event.message)
    at = moment_text(event.time)
    product = watch.trained(_product(work, trained.product), trained.version, at)
    work.put(PRODUCTS, product.product, watch.settled(product))
    work.put(PARAMETERS, parameters_id(product.product, trained.version), Parameters(trained.parameters))
    _judge_again(work, product.concerned(at))


def on_process_limit_changed(work: Work, event: Event) -> None:
    changed = cast(events.ProcessLimitChanged, event.message)
    at = moment_text(event.time)
    product = watch.limited(_product(work, changed.product), changed, at)
    work.put(PRODUCTS, product.product, product)
    _judge_again(work, product.concerned(at))


def _product(work: Work, product: str) -> Product:
    return work.get(PRODUCTS, product) or Product(product, Limits(product))


def parameters_id(product: str, version: str) -> str:
    return f"{product}|{version}"


def _judge_again(work: Work, ids: Iterable[str]) -> None:
    waiting = list(ids)
    work.load(WATCHES, waiting)
    for id in waiting:
        held = work.get(WATCHES, id)
        if held is not None:
            _judge(work, id, held)


def _judge(work: Work, id: str, held: Watch) -> None:
    """Store the run, judged as far as its samples go, if all it needs is there."""
    found = _parameters(work, held)
    if found is not None:
        basis, parameters = found
        held, verdict = watch.judged(held, basis, opened(parameters.model), _memory.growing)
        _tell(work, held, verdict)
    if held != work.get(WATCHES, id):
        work.put(WATCHES, id, held)


def _parameters(work: Work, held: Watch) -> tuple[Basis, Parameters] | None:
    """What judges the run, once its lot is known and there is a model."""
    product = work.get(PRODUCTS, held.product) if held.product else None
    basis = product.basis(held.start) if product else None
    if basis is None:
        return None
    parameters = work.get(PARAMETERS, parameters_id(held.product, basis.version))
    assert parameters is not None, "stored with the version that names it"
    return basis, parameters


def _tell(work: Work, held: Watch, verdict: Verdict) -> None:
    """Open each deviation once for its lot and tag; say how it goes on."""
    rules = work.get(SEVERITY_RULES, held.product) if verdict.found or verdict.updated else None
    units = held.samples.units()
    for detected in verdict.found:
        detected.deviation = _deviation_id(held, detected.tag)
        first = detected.first_out.ToMicroseconds()
        values = [point.value for point in detected.evidence if point.at.ToMicroseconds() >= first]
        detected.proposed_severity = severity.propose(rules, detected.tag, detected.unit, values)
        for decided in deviation.decide_detect(work.get(LOTS, held.lot), detected):
            work.apply(LOTS, held.lot, decided)
    for updated in verdict.updated:
        updated.deviation = _deviation_id(held, updated.tag)
        values = [updated.lowest, updated.highest]
        updated.proposed_severity = severity.propose(rules, updated.tag, units[updated.tag], values)
        for decided in deviation.decide_update(work.get(LOTS, held.lot), updated):
            work.apply(LOTS, held.lot, decided)


def _deviation_id(held: Watch, tag: str) -> str:
    return derived_id("deviation", held.lot, tag)
