"""`transfers` and what a person signs and records of one."""

from __future__ import annotations

import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from services.kit.errors import Rejected
from tests.unit.cli.support import Bench

CASE = "transfer:PS-7/plant-1"


def estimate(value: float) -> common.Estimate:
    return common.Estimate(value=value, lower=value - 1, upper=value + 1)


def a_transfer(state: int) -> production.Transfer:
    expected = events.AttributePrediction(
        attribute="titre", unit="g/L", source=estimate(3.2), target=estimate(3.3), low=2.2, calibrated_by=-0.5
    )
    gap = events.TransferGap(quantity="kla", unit="/h", source=68, target=60, ratio=0.88, low=1, high=50)
    return production.Transfer(
        transfer=CASE,
        set="PS-7",
        version=2,
        plant="plant-1",
        state=production.TransferState.Name(state),
        adapted=events.TwinAdapted(
            line="line-a", gaps=[gap], predictions=[expected], not_modelled=["head_pressure"]
        ),
        proposed=events.OptimisationProposed(proposal="p-1", moved=["agitation"], predictions=[expected]),
    )


def test_transfers_say_what_each_waits_for(bench: Bench) -> None:
    refused = a_transfer(production.TRANSFER_STATE_REFUSED)
    refused.refused.reasons.add(rule="OUTSIDE_PAR", field="feed", statement="too much")
    found = [a_transfer(production.TRANSFER_STATE_PROPOSED), refused]
    bench.fake.answers["ListTransfers"] = lambda request: production.ListTransfersResponse(transfers=found)
    shown = bench.json("transfer", "list", "--plant", "plant-1")["transfers"]
    assert [item["version"] for item in shown] == [2, 2]
    assert bench.fake.of("ListTransfers")[0].plant == "plant-1"
    told = bench.run("transfer", "list").output
    assert "sign p-1" in told
    assert "OUTSIDE_PAR" in told


def test_a_transfer_is_shown_with_gaps_predictions_set_points_and_history(bench: Bench) -> None:
    answer = production.GetTransferResponse(transfer=a_transfer(production.TRANSFER_STATE_PROPOSED))
    answer.adapted.add(parameter="agitation", value=210.9, unit="/min")
    answer.proposed.add(parameter="agitation", value=250.0, unit="/min")
    answer.history.add(event="TwinAdapted", version=2, actor="platform", statement="adapted to line line-a")
    bench.fake.answers["GetTransfer"] = lambda request: answer
    told = bench.run("transfer", "show", CASE).output
    for expected in ("1 to 50 (outside)", "3.3 (2.3 to 4.3)", "-0.5", "as is: head_pressure", "210.9", "250"):
        assert expected in told, told
    assert bench.json("transfer", "show", CASE)["proposed"][0]["value"] == 250.0


def test_lines_show_what_their_vessels_can_do(bench: Bench) -> None:
    detail = events.LineDetail(liquid_m3=1.0, volume_m3=1.5, stirrer_max_per_s=5.8)
    line = production.Line(plant="plant-1", line="line-a", products=["m/item/P"], detail=detail)
    bench.fake.answers["ListLines"] = lambda request: production.ListLinesResponse(lines=[line])
    told = bench.run("line", "list").output
    assert "1 of 1.5" in told
    assert "0 to 5.8" in told


def test_a_person_signs_validates_and_files(bench: Bench) -> None:
    bench.fake.answers = {
        "DecideTransfer": lambda request: production.DecideTransferResponse(),
        "RecordRecipeValidation": lambda request: production.RecordRecipeValidationResponse(),
        "RecordRecipeFiling": lambda request: production.RecordRecipeFilingResponse(),
    }
    signing = ["transfer", "sign", CASE, "--proposal", "p-1", "--meaning", "I take responsibility"]
    assert bench.run(*signing, "--accept").exit_code == 0
    assert bench.run(*signing, "--refuse", "--reason", "we know the line").exit_code == 0
    first, second = bench.fake.of("DecideTransfer")
    assert (first.accepted, first.proposal, first.meaning) == (True, "p-1", "I take responsibility")
    assert (second.accepted, second.reason) == (False, "we know the line")
    validation = ["transfer", "validate", CASE, "--version", "2", "--record", "V-1", "--statement", "shown"]
    assert bench.run(*validation).exit_code == 0
    assert [one.version for one in bench.fake.of("RecordRecipeValidation")] == [2]
    filing = [
        "transfer",
        "file",
        CASE,
        "--version",
        "2",
        "--category",
        "notification",
        "--reference",
        "N-7",
        "--statement",
        "y",
    ]
    assert bench.run(*filing).exit_code == 0
    (filed,) = bench.fake.of("RecordRecipeFiling")
    assert (filed.category, filed.reference) == (events.FILING_CATEGORY_NOTIFICATION, "N-7")
    assert filed.version == 2


def test_nobody_signs_without_saying_which_way(bench: Bench) -> None:
    asked = bench.run("transfer", "sign", CASE, "--proposal", "p-1", "--meaning", "m")
    assert asked.exit_code == 2
    assert not bench.fake.of("DecideTransfer")


@pytest.mark.parametrize("reason", ["RANGE_NARROWED", "NOT_LATEST_PROPOSAL"])
def test_a_refused_signature_is_one_plain_sentence(bench: Bench, reason: str) -> None:
    def refuse(request: production.DecideTransferRequest) -> production.DecideTransferResponse:
        raise Rejected(reason, "look at the latest proposal", "proposal")

    bench.fake.answers["DecideTransfer"] = refuse
    told = bench.run("transfer", "sign", CASE, "--proposal", "p-1", "--meaning", "m", "--accept")
    assert told.exit_code == 1
    assert f"look at the latest proposal ({reason}, field proposal)" in told.output
