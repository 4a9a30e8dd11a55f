"""`verify` on transfers, studies and the lineage: what ended otherwise than it had to must fail it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as events
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.rnd.v1 import service_pb2 as rnd
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.kit.errors import Unknown
from tests.unit.cli.support import SITE, Bench, run

PRODUCT, SET, PLANT, WEAK = "maker-3/gtin/A", "set-1", "plant-3", "plant-4"
MISFIT, MISTAKES = f"{SET}-misfit", [f"{SET}-point-outside", f"{SET}-not-a-number"]
BAND, GENOTYPE, MARKETING, WRONG = "study-band", "study-genotype", "study-marketing", "study-wrong"
TREATMENT = {
    "product": PRODUCT,
    "transfers": {
        "set": SET,
        "plant": PLANT,
        "versions": 3,
        "misfit": {"set": MISFIT, "plant": WEAK, "rules": ["OUTSIDE_LINE_LIMIT"]},
        "mistakes": MISTAKES,
    },
    "studies": [
        {"study": BAND, "name": "warm-band", "outcome": "closed", "sign": 1},
        {"study": GENOTYPE, "name": "genotype", "outcome": "closed", "sign": -1},
        {"study": MARKETING, "name": "marketing", "outcome": "refused", "sign": 0},
        {"study": WRONG, "name": "no-purpose", "outcome": "", "sign": 0},
    ],
}
CLOSED, REFUSED = events.RUN_OUTCOME_CLOSED, events.RUN_OUTCOME_REFUSED
TYPES = {
    "rnd": ["TargetRegistered", "MoleculeRegistered", "TrialCompleted", "HypothesisUpdated"],
    "production": ["TwinAdapted", "LotStarted"],
    "loops": ["TransferRunOpened"],
    "exchange": ["StudyRequested", "InsightPublished"],
    "traceability": ["MaterialRecorded"],
}


@dataclass
class Platform:
    """What the services say of a world in which all went as it had to; a test spoils some of it."""

    transfers: dict[tuple[str, int, str], int] = field(
        default_factory=lambda: {
            **{(SET, version, PLANT): CLOSED for version in (1, 2, 3)},
            (MISFIT, 1, WEAK): REFUSED,
        }
    )
    rules: list[str] = field(default_factory=lambda: ["OUTSIDE_LINE_LIMIT", "OUTSIDE_CORRELATION"])
    drafted: list[str] = field(default_factory=lambda: [SET, MISFIT])
    gaps: list[float] = field(default_factory=lambda: [-0.5, -0.2, -0.1])
    studies: dict[str, int] = field(
        default_factory=lambda: {BAND: CLOSED, GENOTYPE: CLOSED, MARKETING: REFUSED}
    )
    effects: dict[str, tuple[float, float]] = field(
        default_factory=lambda: {BAND: (1.2, 0.001), GENOTYPE: (-0.8, 1e-9)}
    )
    hypotheses: list[str] = field(default_factory=lambda: [BAND, GENOTYPE])
    ranked: str = BAND
    types: dict[str, list[str]] = field(default_factory=lambda: dict(TYPES))
    #: A hop from a thing to another; the first is the target.
    links: list[tuple[str, str]] = field(
        default_factory=lambda: [("target", "molecule"), ("molecule", "product"), ("product", "lot")]
    )

    def answers(self) -> dict[str, Callable[[Any], Any]]:
        return {
            "ListRuns": self._runs,
            "ListTransfers": self._refused,
            "GetTransferGaps": self._gaps,
            "ListParameterSets": self._sets,
            "GetStudy": self._study,
            "ListHypotheses": self._hypotheses,
            "ListCandidates": self._candidates,
            "GetLineage": self._lineage,
        }

    def _runs(self, request: loops.ListRunsRequest) -> loops.ListRunsResponse:
        moved = [self._transfer(*key, outcome) for key, outcome in self.transfers.items()]
        asked = [self._evidence(study, outcome) for study, outcome in self.studies.items()]
        found = {"transfer": moved, "evidence": asked, "": [run(), *moved, *asked]}
        return loops.ListRunsResponse(runs=found[request.loop])

    def _transfer(self, name: str, version: int, plant: str, outcome: int) -> loops.Run:
        opened = events.TransferRunOpened(run=f"{name}-{version}", set=name, version=version, plant=plant)
        return _ended(loops.Run(loop="transfer", opened_transfer=opened), outcome)

    def _evidence(self, study: str, outcome: int) -> loops.Run:
        return _ended(
            loops.Run(loop="evidence", opened_evidence=events.EvidenceRunOpened(study=study)), outcome
        )

    def _refused(self, request: production.ListTransfersRequest) -> production.ListTransfersResponse:
        assert request.state == production.TRANSFER_STATE_REFUSED
        found = production.ListTransfersResponse()
        one = found.transfers.add(set=MISFIT, plant=WEAK)
        for rule in self.rules:
            one.refused.reasons.add(rule=rule)
        return found

    def _gaps(self, request: rnd.GetTransferGapsRequest) -> rnd.GetTransferGapsResponse:
        assert (request.product, request.plant) == (PRODUCT, PLANT)
        found = rnd.GetTransferGapsResponse()
        for gap in self.gaps:
            found.outcomes.add().gaps.add(attribute="titre", gap_before=-0.5, gap=gap)
        return found

    def _sets(self, request: rnd.ListParameterSetsRequest) -> rnd.ListParameterSetsResponse:
        found = rnd.ListParameterSetsResponse()
        for name in self.drafted:
            found.versions.add(set=name, version=1)
        return found

    def _study(self, request: exchange.GetStudyRequest) -> exchange.GetStudyResponse:
        if request.study not in self.studies:
            raise Unknown("UNKNOWN_STUDY", "no such study", "study")
        found = exchange.GetStudyResponse()
        if request.study in self.effects:
            value, p_value = self.effects[request.study]
            insight = found.study.insight
            insight.insight, insight.members = f"insight-{request.study}", 500
            insight.sites.extend(["hospital-a", "hospital-b", "hospital-c"])
            effect = insight.effects.add(term="exposed", p_value=p_value)
            effect.estimate.value = value
        return found

    def _hypotheses(self, request: rnd.ListHypothesesRequest) -> rnd.ListHypothesesResponse:
        found = rnd.ListHypothesesResponse()
        for study in self.hypotheses:
            one = found.hypotheses.add(insights=[f"insight-{study}"])
            one.latest.hypothesis = f"hypothesis-{study}"
        return found

    def _candidates(self, request: rnd.ListCandidatesRequest) -> rnd.ListCandidatesResponse:
        found = rnd.ListCandidatesResponse()
        found.rankings.add().ranked.insight = f"insight-{self.ranked}"
        return found

    def _lineage(self, request: trace.GetLineageRequest) -> trace.GetLineageResponse:
        assert request.id == PRODUCT
        found = trace.GetLineageResponse()
        for service, types in self.types.items():
            for name in types:
                found.hops.add(event=name, type=f"pharmaloop.{service}.v1.{name}", service=service)
        for hop, (one, other) in zip(found.hops, self.links, strict=False):
            hop.comes_from.add(kind=one, id=f"{one}-1")
            hop.leads_to.add(kind=other, id=f"{other}-1")
        return found


def _ended(found: loops.Run, outcome: int) -> loops.Run:
    found.stages.add(name="first", seconds=0.5)
    if outcome:
        found.state = loops.RUN_STATE_CLOSED
        found.closed.outcome = cast(Any, outcome)
    return found


@pytest.fixture
def developed(good: Bench) -> tuple[Bench, Platform]:
    """A good platform whose world has a developer, too."""
    good.write_truth([[SITE, "P-1", "a"], [SITE, "P-1", "b"], [SITE, "P-2", "c"]], treatment=TREATMENT)
    platform = Platform()
    good.fake.answers |= platform.answers()
    return good, platform


def failures(bench: Bench) -> list[str]:
    """What failed; the exit status says the same."""
    result = bench.run("verify", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == int(bool(document["failures"]))
    return list(document["failures"])


def test_three_loops_that_ended_as_they_had_to(developed: tuple[Bench, Platform]) -> None:
    bench, _ = developed
    assert failures(bench) == []
    document = bench.json("verify")
    wanted = {"versions": 3, "closed": 3, "drafts_refused": 2, "stage_seconds": {"first": 0.5}}
    assert wanted.items() <= document["transfer"].items()
    assert document["transfer"]["gaps"][0]["gaps"] == [-0.5, -0.2, -0.1]
    studies = {one["name"]: one for one in document["evidence"]["studies"]}
    assert set(studies) == {"warm-band", "genotype", "marketing"}
    assert (studies["warm-band"]["members"], studies["warm-band"]["sites"]) == (500, 3)
    assert document["evidence"]["requests_refused"] == 1
    assert document["lineage"]["services"] == sorted(TYPES)
    told = bench.run("verify").output
    assert "3 of 3 versions closed" in told
    assert "transfers and studies ended as they had to" in told


def test_a_world_without_a_developer_is_judged_as_before(good: Bench) -> None:
    """Neither is anything of the two loops asked, nor does it stand in the document."""
    good.write_truth([[SITE, "P-1", "a"], [SITE, "P-1", "b"], [SITE, "P-2", "c"]], treatment=None)
    document = good.json("verify")
    assert document["ok"] is True
    assert not {"transfer", "evidence", "lineage"} & document.keys()
    assert "transfer" not in good.run("verify").output
    assert not {name for name, _ in good.fake.requests} & {"GetStudy", "GetLineage", "ListTransfers"}


def test_runs_of_the_other_loops_are_no_runs_of_the_safety_loop(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    platform.transfers[SET, 4, PLANT] = 0
    assert bench.json("verify")["safety"]["runs"] == 1


# -- the transfer loop ----------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [0, REFUSED, events.RUN_OUTCOME_CANCELLED])
def test_a_version_without_a_closed_run_fails(developed: tuple[Bench, Platform], outcome: int) -> None:
    bench, platform = developed
    platform.transfers[SET, 2, PLANT] = outcome
    assert failures(bench) == [f"version 2 of {SET} has no closed run at {PLANT}"]


def test_a_closed_run_at_another_plant_does_not_count(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    del platform.transfers[SET, 3, PLANT]
    platform.transfers[SET, 3, WEAK] = CLOSED
    assert failures(bench) == [f"version 3 of {SET} has no closed run at {PLANT}"]


@pytest.mark.parametrize("outcome", [0, CLOSED])
def test_a_misfit_that_was_not_refused_fails(developed: tuple[Bench, Platform], outcome: int) -> None:
    bench, platform = developed
    platform.transfers[MISFIT, 1, WEAK] = outcome
    assert failures(bench) == [f"the transfer of {MISFIT} to {WEAK} was not refused"]


def test_a_misfit_that_was_refused_by_another_rule_fails(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    platform.rules = ["UNKNOWN_MODEL"]
    assert failures(bench) == [f"the transfer of {MISFIT} was refused, and not by OUTSIDE_LINE_LIMIT"]


def test_a_draft_on_record_that_had_to_be_refused_fails(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    platform.drafted.append(MISTAKES[1])
    assert failures(bench) == [f"the draft {MISTAKES[1]} is on record, and had to be refused"]
    assert bench.json("verify")["transfer"]["drafts_refused"] == 1


@pytest.mark.parametrize("gaps", [[-0.2, -0.2, -0.3], [0.1, -0.4, 0.4], [-0.5, -0.1], []])
def test_a_gap_that_does_not_shrink_fails(developed: tuple[Bench, Platform], gaps: list[float]) -> None:
    """Nor is it shown to shrink by fewer lots than three."""
    bench, platform = developed
    platform.gaps = gaps
    assert failures(bench) == ["the gap of no attribute shrank over the transfers"]


# -- the evidence loop ----------------------------------------------------------------------


@pytest.mark.parametrize("effect", [(1.2, 0.2), (-1.2, 0.001), (0.0, 0.001)])
def test_a_planted_effect_that_was_not_found_fails(
    developed: tuple[Bench, Platform], effect: tuple[float, float]
) -> None:
    """Uncertain, or in the other direction."""
    bench, platform = developed
    platform.effects[BAND] = effect
    (failure,) = failures(bench)
    assert failure.startswith("the effect planted in warm-band was not found")


def test_an_answer_without_an_estimate_fails(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    del platform.effects[GENOTYPE]
    assert "the study genotype gives no estimate with a p-value" in failures(bench)


@pytest.mark.parametrize(
    ("study", "outcome", "said"),
    [
        (BAND, 0, "warm-band ended not at all, not closed"),
        (GENOTYPE, events.RUN_OUTCOME_DECLINED, "genotype ended declined, not closed"),
        (MARKETING, CLOSED, "marketing ended closed, not refused"),
    ],
)
def test_a_study_that_ended_otherwise_fails(
    developed: tuple[Bench, Platform], study: str, outcome: int, said: str
) -> None:
    bench, platform = developed
    platform.studies[study] = outcome
    assert f"the run of the study {said}" in failures(bench)


def test_a_study_that_is_not_on_record_fails(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    del platform.studies[GENOTYPE]
    assert failures(bench) == ["the study genotype is not on record"]


def test_a_request_on_record_that_had_to_be_refused_fails(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    platform.studies[WRONG] = 0
    assert failures(bench) == ["the study no-purpose is on record, and had to be refused"]
    assert bench.json("verify")["evidence"]["requests_refused"] == 0


def test_a_finding_that_no_hypothesis_rests_on_fails(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    platform.hypotheses = [BAND]
    assert failures(bench) == ["no hypothesis rests on the finding of genotype"]


def test_candidates_that_were_never_ranked_after_a_finding_fail(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    platform.ranked = "another"
    assert failures(bench) == ["no candidates were ranked after a finding"]


# -- the lineage ----------------------------------------------------------------------------


def test_a_lineage_of_too_few_services_fails(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    del platform.types["traceability"]
    assert failures(bench) == [f"the lineage of {PRODUCT} has 9 event types of 4 services"]


def test_a_lineage_of_too_few_event_types_fails(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    platform.types["production"] = ["LotStarted"]
    platform.types["exchange"] = ["InsightPublished"]
    assert failures(bench) == [f"the lineage of {PRODUCT} has 8 event types of 5 services"]


def test_a_lineage_without_its_beginning_or_end_fails(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    platform.types["rnd"] = ["MoleculeRegistered", "ProductRegistered", "CandidatesRanked", "TrialCompleted"]
    assert failures(bench) == [
        f"the lineage of {PRODUCT} lacks TargetRegistered",
        f"the lineage of {PRODUCT} lacks HypothesisUpdated",
    ]


def test_a_lineage_with_a_broken_link_fails(developed: tuple[Bench, Platform]) -> None:
    bench, platform = developed
    platform.links.remove(("molecule", "product"))
    assert failures(bench) == [
        f"the lineage of {PRODUCT} is broken: MoleculeRegistered comes from product product-1, "
        "and no event leads to it"
    ]
