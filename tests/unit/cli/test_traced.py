"""`run show`: whom a run concerns site by site, and what led to what, as far as the trace tells."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.traceability.v1 import service_pb2 as trace
from tests.unit.cli import support
from tests.unit.cli.support import ONSET, PACKED, ROOT, Bench
from tests.unit.cli.test_judged import on_80

RUN = "7b0c7a52-52c0-4d0e-9c73-0e8d1b5b9f10"


def exposure(_: Any) -> trace.GetExposureResponse:
    """Two sites are announced; one told its people, one of whose groups is withheld, and one did not."""
    found = trace.GetExposureResponse(phase="open")
    found.announced.version, found.announced.unattributed = 7, 2
    found.announced.lots.extend([ROOT, PACKED])
    for number, site in enumerate(("hospital-a", "hospital-b")):
        held = found.announced.sites[site]
        held.epoch, held.digest = 5 + number, bytes([0xAB + number]) * 32
    one = found.sites.add(site="hospital-a", told=True)
    one.people.dispenses.value, one.people.patients.value = 44, 40
    one.people.notified.withheld = True
    found.sites.add(site="hospital-b").people.dispenses.value = 12
    found.people.dispenses.value, found.people.patients.withheld = 56, True
    return found


def hop(event: str, second: int, comes: tuple[str, str], leads: tuple[str, str], cause: str = "") -> Any:
    return trace.LineageHop(
        event=event,
        type=f"pharmaloop.loops.v1.{event}",
        at=Timestamp(seconds=ONSET + second),
        recorded_at=Timestamp(seconds=ONSET + 86_400 + second),
        comes_from=[trace.LineageThing(kind=comes[0], id=comes[1])],
        leads_to=[trace.LineageThing(kind=leads[0], id=leads[1])],
        cause=cause,
    )


def lineage(_: Any) -> trace.GetLineageResponse:
    """What triggered the run, its own events, and one of another run of the lot."""
    return trace.GetLineageResponse(
        hops=[
            hop("DeviationConfirmed", 0, ("lot", ROOT), ("deviation", "d-1")),
            hop("SafetyRunOpened", 1, ("deviation", "d-1"), ("run", RUN), "DeviationConfirmed"),
            hop("LoopStalled", 2, ("lot", ROOT), ("run", "another")),
            hop("CapaProposed", 3, ("run", RUN), ("capa", "c-5"), "SafetyRunOpened"),
        ]
    )


def answers(bench: Bench, **more: Any) -> None:
    bench.fake.answers = {
        "GetRun": lambda request: loops.GetRunResponse(run=support.run(RUN)),
        "GetExposure": exposure,
        "GetLineage": lineage,
        **more,
    }


def test_one_reads_counts_sites_and_what_led_to_what(bench: Bench) -> None:
    answers(bench)
    shown = on_80(bench, "run", "show", RUN)
    lines = {line.split("  ")[0]: line.split() for line in shown.splitlines()}
    assert lines["hospital-a"][1:] == ["5", "44", "40", "withheld", "ab" * 8]
    assert lines["hospital-b"][1:] == ["6", "12", "-", "-", "ac" * 8]
    assert lines["name nobody"][2:] == ["2,", "explained", "0"]
    assert lines["exposed patients"][2:] == ["withheld"]
    assert lines["SafetyRunOpened"][1:] == ["2026-01-05", "08:00:01", "2026-01-06", "08:00:01"]
    assert "LoopStalled" not in shown
    assert shown.index("DeviationConfirmed") < shown.index("SafetyRunOpened") < shown.index("CapaProposed")
    (asked,) = bench.fake.of("GetLineage")
    assert (asked.id, asked.kind) == (RUN, "run")


def test_programs_read_whole_digests_and_hops(bench: Bench) -> None:
    answers(bench)
    found = bench.json("run", "show", RUN)
    assert found["exposure"]["announced"]["sites"]["hospital-a"]["digest"] == "ab" * 32
    assert [one["event"] for one in found["hops"]] == [
        "DeviationConfirmed",
        "SafetyRunOpened",
        "CapaProposed",
    ]


def test_a_run_of_another_loop_has_hops_of_its_transfer_and_no_exposure(bench: Bench) -> None:
    run = loops.Run(run="t-1", loop="transfer", case="transfer:set-1/plant-1")
    answers(bench, GetRun=lambda request: loops.GetRunResponse(run=run))
    assert bench.json("run", "show", "t-1")["exposure"] is None
    assert (bench.fake.of("GetLineage")[0].id, bench.fake.of("GetExposure")) == (run.case, [])


def test_the_run_is_shown_without_the_trace(bench: Bench) -> None:
    bench.fake.answers = {"GetRun": lambda request: loops.GetRunResponse(run=support.run(RUN))}
    result = bench.run("run", "show", RUN)
    assert result.exit_code == 0
    assert "Sites of the journal" not in result.output
    found = bench.json("run", "show", RUN)
    assert (found["exposure"], found["hops"]) == (None, None)
