"""A loop can be followed from span to span, through services, topics, its own machine and its steps.

The whole platform in one process, by simulation: handlers, deciders, relay,
steps and the loops' machine are the product's own, the log and the databases
are simulated. One world has a recall, a transfer and a study.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.reliability.sim.scheduler import undisturbed
from tests.reliability.sim.verdict import silence
from tests.traced import Told, traced

pytestmark = pytest.mark.timeout(300)
#: A seed whose world has all three loops.
_SEED = 6
#: For each loop, ways on which each span is the parent of the next: what a runner does on an event of a
#: type (`runner: type`), or a step. `loops.cases` is the loops' own machine, behind `loops.router`.
WAYS = {
    "safety": (
        # What is found in the plant is told to whoever watches.
        ("production.detector: ReadingsRecorded", "alerting.alerts: DeviationDetected"),
        # production -> loop -> traceability -> hospital -> loop -> whoever is to be alerted
        (
            "loops.router: DeviationConfirmed",
            "loops.cases: DeviationConfirmed",
            "traceability.fold: SafetyRunOpened",
            "clinical.exposure: ExposureEntriesJoined",
            "loops.router: PlansOpened",
            "loops.cases: PlansOpened",
        ),
        ("loops.cases: CohortFrozen", "alerting.alerts: StageCompleted"),
        # hospital -> production -> loop: what is learnt comes back to where it began
        ("step evidence", "production.quality: EvidenceReleased", "loops.router: CapaProposed"),
        ("loops.router: CapaProposed", "loops.cases: CapaProposed", "loops.runs: StageCompleted"),
    ),
    "transfer": (
        # research -> loop -> plant -> loop
        (
            "loops.router: ParameterSetReleased",
            "loops.cases: ParameterSetReleased",
            "production.transfers: TransferRunOpened",
            "step adapt",
            "loops.router: TwinAdapted",
            "loops.cases: TwinAdapted",
            "loops.runs: StageCompleted",
        ),
        (
            "step adapt",
            "step advise",
            "loops.router: OptimisationProposed",
            "loops.cases: OptimisationProposed",
        ),
        # plant -> research -> loop: the outcome calibrates what was predicted
        (
            "production.transfers: TestResultRecorded",
            "rnd.learning: TransferOutcomeRecorded",
            "loops.router: PredictionCalibrated",
            "loops.cases: PredictionCalibrated",
            "loops.runs: StageCompleted",
        ),
    ),
    "evidence": (
        # exchange -> loop -> exchange -> loop
        (
            "loops.router: StudyRequested",
            "loops.cases: StudyRequested",
            "exchange.runs: EvidenceRunOpened",
            "step job",
        ),
        ("step job", "loops.router: JobOpened", "loops.cases: JobOpened"),
        ("step job", "loops.router: CohortFrozen", "loops.cases: CohortFrozen", "loops.runs: StageCompleted"),
        ("loops.cases: StudyApproved", "loops.runs: StageCompleted"),
        # exchange -> research, and into the loop
        ("step job", "rnd.learning: InsightPublished"),
        ("step job", "loops.router: InsightPublished", "loops.cases: InsightPublished"),
    ),
}


def _label(span: Told) -> str:
    if not span.name.startswith("process "):
        return span.name
    runner, event = (
        str(span.said.get(name, "")) for name in ("messaging.consumer.group.name", "pharmaloop.event")
    )
    return f"{runner}: {event.rpartition('.')[2]}"


@pytest.fixture(scope="module")
def spans() -> Iterator[list[Told]]:
    with silence(), traced() as book:
        undisturbed(_SEED)
        yield book.spans


@pytest.fixture(scope="module")
def children(spans: list[Told]) -> dict[str, list[Told]]:
    """The children of each span, by its id."""
    found: dict[str, list[Told]] = defaultdict(list)
    for span in spans:
        found[span.parent].append(span)
    return found


def _longest(way: tuple[str, ...], spans: list[Told], children: dict[str, list[Told]]) -> tuple[str, ...]:
    """How far a way can be followed from parent to child, in one trace."""
    at = [span for span in spans if _label(span) == way[0]]
    done = 0
    while at:
        done += 1
        if done == len(way):
            break
        near = [(span, child) for span in at for child in children[span.id]]
        at = [child for span, child in near if _label(child) == way[done] and child.trace == span.trace]
    return way[:done]


@pytest.mark.parametrize("loop", WAYS)
def test_the_hops_of_a_loop_are_parent_and_child(
    loop: str, spans: list[Told], children: dict[str, list[Told]]
) -> None:
    for way in WAYS[loop]:
        assert _longest(way, spans, children) == way


def test_no_span_says_who_it_is_about(spans: list[Told]) -> None:
    """Nothing but what kind of thing it was and where it stands: no lot, no patient, no person."""
    allowed = {
        "error.type",
        "messaging.batch.message_count",
        "messaging.consumer.group.name",
        "messaging.destination.name",
        "messaging.destination.partition.id",
        "messaging.kafka.offset",
        "messaging.message.id",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.system",
        "pharmaloop.event",
        "pharmaloop.outcome",
        "pharmaloop.run",
        "pharmaloop.step",
    }
    assert {name for span in spans for name in span.said} <= allowed


def test_reminders_are_traces_of_their_own_that_link_back(spans: list[Told]) -> None:
    """A deadline of days would hold a trace open for days."""
    late = [span for span in spans if span.name == "step telling"]
    known = {span.id for span in spans}
    assert late
    assert all(span.parent == "" and span.links and set(span.links) <= known for span in late)
