"""`dossier`: every section is readable, what is withheld says so, what is left out says so."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import dossier_pb2 as page
from pharmaloop.traceability.v1 import service_pb2 as traceability
from tests.unit.cli.support import PACKED, ROOT, SITE, Bench

AT = Timestamp(seconds=1_767_600_000)


def count(value: int = 0) -> page.PublishedCount:
    return page.PublishedCount(value=value, withheld=not value)


def concerned(patients: int) -> page.ExposedCounts:
    return page.ExposedCounts(dispenses=count(44), patients=count(patients), notified=count())


def answer(request: traceability.GetLotDossierRequest) -> traceability.GetLotDossierResponse:
    run = page.ExposedRun(
        run="run-1", root=ROOT, opened=AT, waiting_for="a [/lot]'s owner", lots=[ROOT, PACKED],
        people=concerned(41), sites=[page.ExposedAtSite(site=SITE, told=True, people=concerned(0))],
    )  # fmt: skip
    released = page.ReleasedEvidence(
        number=4,
        final=True,
        exposed=page.ReleasedArm(patients=31, cases=14),
        comparators=page.ReleasedArm(withheld=True),
    )
    evidence = page.RunEvidence(
        run="run-1",
        people=page.AnswerCounts(plans=count(33), answered=count()),
        sites=[page.AnswersAtSite(site=SITE, released=released)],
        pooled=page.PooledEvidence(
            risk_ratio=common.Estimate(value=2.5, lower=1.25, upper=5.125),
            rate_difference=common.Estimate(reason="NO_PERSON_TIME"),
            sites_pooled=2,
            sites=3,
        ),
        capa=page.RunCapa(
            capa="c",
            tag="DryerTemp",
            limit_before=4,
            limit_after=3,
            state="approved",
            proposed=AT,
            approved=AT,
            filing_assessed=AT,
            filing_category="notification",
            filing_reference="N-17",
        ),
    )
    later = Timestamp(seconds=AT.seconds + 90)
    deviation = page.LotDeviation(
        tag="DryerTemp", magnitude=9, limit=5, state="capa_required", first_out=AT, detected=AT,
        last_out=later, lasting=True, severity="major", proposed_severity="minor",
    )  # fmt: skip
    finding = page.LotFinding(
        result="r", test="assay", value=88.5, unit="%", low=90, tested=AT, finding="out_of_specification",
        state="laboratory_error", retest="r2", closed=later, who="lab", why="wrong column",
    )  # fmt: skip
    decision = page.Decision(at=AT, what="DEVIATION_CONFIRMED", who="qa", why="clearly out")
    found = page.LotDossier(
        lot=request.lot,
        process=page.ProcessSection(state="held", steps=[page.ProcessStep(at=AT, what="HELD", who="qa")]),
        deviations=page.DeviationSection(deviations=[deviation]),
        results=page.ResultSection(findings=[finding, page.LotFinding(test="pH")], left_out=3, others=12),
        material=page.MaterialSection(outputs=[PACKED], outputs_left_out=17, suspect=["MASS_IMBALANCE"]),
        distribution=page.DistributionSection(
            places=[page.LotPlace(place="pharmacy-7", received=12, unit="kg")], dispensed=True
        ),
        exposed=page.ExposedSection(runs=[run]),
        evidence=page.EvidenceSection(runs=[evidence]),
        decisions=page.DecisionSection(decisions=[decision]),
    )
    return traceability.GetLotDossierResponse(dossier=found)


def test_people_read_every_section(bench: Bench) -> None:
    bench.fake.answers["GetLotDossier"] = answer
    said = bench.run("lot", "dossier", ROOT)
    assert said.exit_code == 0
    for expected in (
        ROOT, "held", "9 SD (limit 5)", PACKED, "(17 more are left out)", "MASS_IMBALANCE", "pharmacy-7",
        "waits for a [/lot]'s owner", "41", "33", "4.00 -> 3.00 SD", "clearly out", "notification N-17",
        "90 s, and goes on", "88.5 % (90 to -), retest passed", "laboratory error", "(3 more are left out)",
        "other results on record: 12",
    ):  # fmt: skip
        assert expected in said.output
    site = next(line for line in said.output.splitlines() if line.startswith(SITE))
    assert site.split() == [SITE, "44", "withheld", "withheld"]


def test_people_read_what_was_released_and_what_was_not(bench: Bench) -> None:
    bench.fake.answers["GetLotDossier"] = answer
    lines = bench.run("lot", "dossier", ROOT).output.splitlines()
    run = next(line for line in lines if line.split()[:3] == ["run-1", "33", "withheld"])
    assert run.split()[3:] == ["-", "no"], "complaints that nobody told are not 0"
    site = [line for line in lines if line.startswith(SITE)][-1]
    assert site.split() == [SITE, "14", "of", "31", "withheld", "yes"]
    assert "Estimates of run run-1, from 2 of 3 sites:" in lines
    assert "  risk ratio 2.5 (1.25 to 5.12)" in lines
    assert "  rate difference - (no follow-up time of both groups to compare) a day" in lines


def test_programs_read_the_contract(bench: Bench) -> None:
    bench.fake.answers["GetLotDossier"] = answer
    document = bench.json("lot", "dossier", ROOT)
    assert document["lot"] == ROOT
    assert document["exposed"]["runs"][0]["people"]["patients"] == {"value": 41, "withheld": False}
    assert document["material"]["outputs_left_out"] == 17
    assert document["evidence"]["runs"][0]["insight"] is None
    assert document["evidence"]["runs"][0]["people"]["affected"] is None
    assert document["evidence"]["runs"][0]["sites"][0]["released"]["exposed"]["cases"] == 14
    assert document["results"]["findings"][0]["value"] == 88.5
    assert document["results"]["findings"][1]["value"] is None
