"""`verify` against hand-made worlds: it must fail when a patient is missed, and only then succeed."""

from __future__ import annotations

from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pharmaloop.clinical.v1 import events_pb2 as events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from services.kit.errors import Unknown
from tests.unit.cli.support import ROOT, SITE, Bench, deviation, exposure, planted, run


def exposures(*members: tuple[str, ...], total: int | None = None) -> Any:
    found = [exposure(*member) for member in members]
    count = len(found) if total is None else total
    return lambda request: clinical.ListExposuresResponse(exposures=found, total=count)


def test_all_good(good: Bench) -> None:
    result = good.run("verify")
    assert result.exit_code == 0, result.output
    assert "recall 1.0, precision 1.0" in result.output


def test_the_document(good: Bench) -> None:
    document = good.json("verify")
    safety = document["safety"]
    assert document["ok"] is True
    assert document["failures"] == []
    assert {"runs": 1, "closed": 1, "expected": 3, "recall": 1.0, "precision": 1.0}.items() <= safety.items()
    assert safety["stage_seconds"] == {"trace": {"p50": 0.5, "p99": 0.5}, "seal": {"p50": 1.5, "p99": 1.5}}
    (lot,) = safety["lots"]
    wanted = {
        "lot": ROOT,
        "run": "run-1",
        "expected": 3,
        "found": 3,
        "missed": [],
        "wrong": [],
        "patients": 2,
    }
    assert wanted.items() <= lot.items()
    wanted = {"hits": 1, "misses": 0, "false_alarms": 0, "runs_judged": 1}
    assert wanted.items() <= document["detector"].items()


def test_a_missed_patient_fails(good: Bench) -> None:
    good.fake.answers["ListExposures"] = exposures(("P-1", "a"), ("P-1", "b"))
    assert good.run("verify").exit_code == 1
    document = good.json("verify")
    assert document["ok"] is False
    assert document["safety"]["recall"] == pytest.approx(2 / 3, abs=1e-5)
    assert document["safety"]["precision"] == 1.0
    assert document["safety"]["lots"][0]["missed"] == [[SITE, "P-2", "c"]]


def test_a_missed_dispense_of_a_known_patient_fails_too(good: Bench) -> None:
    good.fake.answers["ListExposures"] = exposures(("P-1", "a"), ("P-2", "c"))
    assert good.run("verify").exit_code == 1


def test_a_wrong_patient_fails(good: Bench) -> None:
    good.fake.answers["ListExposures"] = exposures(("P-1", "a"), ("P-1", "b"), ("P-2", "c"), ("P-9", "z"))
    result = good.run("verify")
    assert result.exit_code == 1
    assert "1 exposures were named wrongly" in result.output
    assert good.json("verify")["safety"]["precision"] == 0.75


def test_runs_of_one_lot_are_united(good: Bench) -> None:
    """What came after the seal is in the successor's run."""
    by_run = {"run-1": exposures(("P-1", "a"), ("P-1", "b")), "run-2": exposures(("P-2", "c"))}
    good.fake.answers["ListRuns"] = lambda request: loops.ListRunsResponse(runs=[run("run-2"), run()])
    good.fake.answers["ListExposures"] = lambda request: by_run[request.run](request)
    document = good.json("verify")
    assert document["ok"] is True
    assert document["safety"]["lots"][0]["runs"] == ["run-2", "run-1"]


@pytest.mark.parametrize("state", [production.DEVIATION_STATE_OPEN, production.DEVIATION_STATE_REJECTED])
def test_nothing_confirmed_fails(good: Bench, state: int) -> None:
    only = [deviation(state=state)]
    good.fake.answers["ListDeviations"] = lambda request: production.ListDeviationsResponse(deviations=only)
    good.fake.answers["ListRuns"] = lambda request: loops.ListRunsResponse()
    result = good.run("verify")
    assert result.exit_code == 1
    assert "nothing was confirmed" in result.output
    assert good.json("verify")["safety"]["recall"] is None


@pytest.mark.parametrize(
    "state", [production.DEVIATION_STATE_CAPA_REQUIRED, production.DEVIATION_STATE_CLOSED]
)
def test_what_was_confirmed_counts_also_when_it_is_answered(good: Bench, state: int) -> None:
    answered = [deviation(state=state)]
    good.fake.answers["ListDeviations"] = lambda request: production.ListDeviationsResponse(
        deviations=answered
    )
    document = good.json("verify")
    assert (document["ok"], document["safety"]["confirmed_lots"]) == (True, 1)


@pytest.mark.parametrize("runs", [[], [run(closed=False)]])
def test_a_confirmed_lot_without_a_closed_run_fails(good: Bench, runs: list[loops.Run]) -> None:
    good.fake.answers["ListRuns"] = lambda request: loops.ListRunsResponse(runs=runs)
    result = good.run("verify")
    assert result.exit_code == 1
    assert "no run of the loop closed" in result.output


def test_a_lot_of_another_world_fails(good: Bench) -> None:
    other = [deviation(lot="maker-9/item/granulate/G-1")]
    good.fake.answers["ListDeviations"] = lambda request: production.ListDeviationsResponse(deviations=other)
    result = good.run("verify")
    assert result.exit_code == 1
    assert "not of this world" in result.output


def test_the_detector_is_measured_and_never_decides(good: Bench) -> None:
    """A missed fault and a false alarm: both are printed, the loop is still right."""
    alarmed, missed = "maker-1/item/granulate/G-0002", "maker-1/item/granulate/G-0003"
    good.write_truth(
        [[SITE, "P-1", "a"], [SITE, "P-1", "b"], [SITE, "P-2", "c"]],
        planted=[planted(ROOT), planted(missed)],
        live=[ROOT, alarmed, missed],
    )
    found = [deviation(), deviation(alarmed, production.DEVIATION_STATE_REJECTED)]
    good.fake.answers["ListDeviations"] = lambda request: production.ListDeviationsResponse(deviations=found)
    document = good.json("verify")
    assert document["ok"] is True
    wanted = {"hits": 1, "misses": 1, "false_alarms": 1, "runs_judged": 3, "false_alarm_rate": 1.0}
    assert wanted.items() <= document["detector"].items()


def test_an_alarm_on_another_tag_is_no_hit(good: Bench) -> None:
    good.write_truth(
        [[SITE, "P-1", "a"], [SITE, "P-1", "b"], [SITE, "P-2", "c"]],
        planted=[planted(ROOT, "JacketTemperature", "DryerPressure")],
    )
    detector = good.json("verify")["detector"]
    assert (detector["hits"], detector["misses"]) == (0, 1)


@pytest.mark.parametrize(("after", "hits"), [(-60, 0), (0, 1), (180, 1)])
def test_an_alarm_before_the_fault_began_is_no_hit(good: Bench, after: int, hits: int) -> None:
    found = [deviation(after=after)]
    good.fake.answers["ListDeviations"] = lambda request: production.ListDeviationsResponse(deviations=found)
    detector = good.json("verify")["detector"]
    assert detector["hits"] == hits
    wanted = {"tag": "DryerTemp", "kind": "step", "samples": after // 60, "seconds": after}
    assert [wanted.items() <= hit.items() for hit in detector["delays"]] == [True] * hits


@pytest.mark.parametrize(
    ("listed", "ok"),
    [((), True), ((("P-3", "x", "CORRECTED"),), True), ((("P-3", "x"),), False)],
)
def test_a_record_that_was_taken_back_is_listed_as_such_or_not_at_all(
    good: Bench, listed: tuple[tuple[str, ...], ...], ok: bool
) -> None:
    good.write_truth([[SITE, "P-1", "a"], [SITE, "P-3", "x", "CORRECTED"]])
    good.fake.answers["ListExposures"] = exposures(("P-1", "a"), *listed)
    document = good.json("verify")
    assert document["ok"] is ok
    assert document["safety"]["lots"][0]["corrected"] == {"expected": 1, "listed": int(ok and bool(listed))}


def test_what_came_back_and_what_is_possible_are_counted_apart(good: Bench) -> None:
    good.write_truth(
        [
            [SITE, "P-1", "a", "RETURNED_UNOPENED"],
            [SITE, "P-1", "b", "RETURNED"],
            [SITE, "P-2", "c", "", "possible"],
        ]
    )
    good.fake.answers["ListExposures"] = exposures(
        ("P-1", "a", "RETURNED_UNOPENED"), ("P-1", "b"), ("P-2", "c")
    )
    document = good.json("verify")
    assert document["ok"] is True
    assert document["safety"]["possible"] == {"expected": 1, "found": 1, "marked": 0}
    assert document["safety"]["lots"][0]["came_back"] == {"expected": 2, "agreed": 1}


def test_somebody_whom_no_hospital_knows_is_not_missed(good: Bench) -> None:
    good.write_truth([[SITE, "P-1", "a"], ["", "", "n"]])
    good.fake.answers["ListExposures"] = exposures(("P-1", "a"))
    assert good.json("verify")["ok"] is True


def test_every_world_that_was_played_here_counts(good: Bench) -> None:
    """An incident beside the industry: its lots are of this platform's worlds, too."""
    other = "maker-1/item/granulate-drift/G-0001"
    found = [deviation(), deviation(other)]
    good.fake.answers["ListDeviations"] = lambda request: production.ListDeviationsResponse(deviations=found)
    assert "not of this world" in good.run("verify").output
    good.write_truth([], name="incidents/drift")
    folder = good.state / "world" / "incidents" / "drift" / "truth"
    parquet.write_table(pyarrow.table({"lot": [other]}), folder / "lots.parquet")
    assert "not of this world" not in good.run("verify").output


def test_a_run_that_has_not_ended_is_not_judged(good: Bench) -> None:
    def unknown(request: Any) -> Any:
        raise Unknown("UNKNOWN_LOT", "no such lot", "lot")

    good.fake.answers["GetLot"] = unknown
    assert good.json("verify")["detector"]["runs_judged"] == 0


def test_a_short_answer_is_not_taken_for_a_whole_one(good: Bench) -> None:
    good.fake.answers["ListExposures"] = exposures(("P-1", "a"), total=3)
    result = good.run("verify")
    assert result.exit_code == 2
    assert "names 3 exposures of run run-1 and sent 1" in result.stderr


def test_no_world_is_a_plain_sentence(bench: Bench) -> None:
    result = bench.run("verify")
    assert result.exit_code == 2
    assert "the simulated world has not been started here" in result.stderr


# -- effects ------------------------------------------------------------------------------


def evidence(request: clinical.GetEvidenceRequest) -> clinical.GetEvidenceResponse:
    """Of the root: two strata of answers, and reports of the hospital's own, which are another kind."""
    found = clinical.GetEvidenceResponse()
    root = found.lots.add(lot=ROOT, whole=True, kind=events.OUTCOME_KIND_PROMPTED)
    root.strata.add(exposed=10, exposed_cases=4, comparators=20, comparator_cases=1)
    root.strata.add(exposed=5, exposed_cases=2, comparators=10, comparator_cases=2)
    for whole, kind in ((False, events.OUTCOME_KIND_PROMPTED), (True, events.OUTCOME_KIND_ROUTINE)):
        found.lots.add(whole=whole, kind=kind).strata.add(exposed=99, exposed_cases=99)
    found.labs.add(code="1742-6", exposed=4, comparators=9, exposed_mean=32.0, comparator_mean=20.0)
    found.labs.add(code="14682-9", exposed=4, comparators=0, exposed_mean=80.0)
    return found


def test_effects_are_shown_apart_from_what_was_planted_and_judge_nothing(good: Bench) -> None:
    good.fake.answers["GetEvidence"] = evidence
    document = good.json("verify")
    assert document["ok"] is True
    (lot,) = document["effects"]["lots"]
    assert lot["planted"] == {"risk": 0.4, "otherwise": 0.08, "harmed": 2, "labs": {"1742-6": 1.6}}
    assert lot["evidence"]["exposed"] == {"answered": 15, "cases": 6}
    assert lot["evidence"]["comparators"] == {"answered": 30, "cases": 3}
    labs = lot["evidence"]["labs"]
    assert labs["1742-6"] == {"exposed": 4, "comparators": 9, "ratio": pytest.approx(1.6)}
    assert labs["14682-9"] == {"exposed": 4, "comparators": 0, "ratio": None}
    assert "significan" not in good.run("verify").output


def test_results_of_several_sites_are_taken_together(good: Bench) -> None:
    """A geometric mean of all, not of the sites' means: (1 * 8 * 8) ** (1/3) = 4 over 2."""
    good.services = (*good.services, f"clinical.{SITE}", "clinical.hospital-b")
    good.write_truth([[SITE, "P-1", "a"], [SITE, "P-1", "b"], [SITE, "P-2", "c"]], sites=[SITE, "hospital-b"])
    means = {SITE: (1, 1.0), "hospital-b": (2, 8.0)}

    def labs(request: clinical.GetEvidenceRequest) -> clinical.GetEvidenceResponse:
        count, mean = means[request.site]
        found = clinical.GetEvidenceResponse()
        found.labs.add(code="x", exposed=count, exposed_mean=mean, comparators=1, comparator_mean=2.0)
        return found

    good.fake.answers["GetEvidence"] = labs
    (lot,) = good.json("verify")["effects"]["lots"]
    assert lot["evidence"]["labs"]["x"] == {"exposed": 3, "comparators": 2, "ratio": pytest.approx(2.0)}


def test_of_two_runs_about_a_lot_the_one_in_which_most_answered_speaks(good: Bench) -> None:
    """Both ask the same people: added up, they would be counted twice."""
    good.fake.answers["ListRuns"] = lambda request: loops.ListRunsResponse(
        runs=[run("run-2"), run(), run("run-3")]
    )
    answered = {"run-1": 12, "run-2": 3, "run-3": 7}

    def of_run(request: clinical.GetEvidenceRequest) -> clinical.GetEvidenceResponse:
        found = clinical.GetEvidenceResponse()
        root = found.lots.add(lot=ROOT, whole=True, kind=events.OUTCOME_KIND_PROMPTED)
        root.strata.add(exposed=answered[request.run], exposed_cases=1)
        return found

    good.fake.answers["GetEvidence"] = of_run
    (lot,) = good.json("verify")["effects"]["lots"]
    assert lot["evidence"]["exposed"] == {"answered": 12, "cases": 1}


def test_a_site_that_knows_nothing_of_a_run_adds_nothing(good: Bench) -> None:
    def unknown(request: Any) -> Any:
        raise Unknown("UNKNOWN_RUN", "nothing of it", "run")

    good.fake.answers["GetEvidence"] = unknown
    assert good.json("verify")["effects"]["lots"][0]["evidence"]["labs"] == {}


def test_reminders_stand_beside_who_needs_them(good: Bench) -> None:
    def plans(request: clinical.ListPlansRequest) -> clinical.ListPlansResponse:
        found = clinical.ListPlansResponse()
        for name, answered, reminded, labs in (
            ("P-1", True, 1, ["x", "y"]),
            ("P-2", False, 2, []),
            ("C-1", True, 0, []),
        ):
            view = found.plans.add(answered=answered, labs=labs)
            view.plan.pseudonym = name
            for _ in range(reminded):
                view.reminded.add()
        return found

    good.fake.answers["ListPlans"] = plans
    assert good.json("verify")["effects"]["follow_up"] == {
        "plans": 3,
        "answered": 2,
        "reminded": 2,
        "reminded_twice": 1,
        "answered_after_reminder": 1,
        "results": 2,
        "never_answer": 1,
        "answer_after_reminder": 1,
    }
    assert "2 reminded after a day, 1 after three" in " ".join(good.run("verify").output.split())
