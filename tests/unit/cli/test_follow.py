"""`follow`: what a service tells, gone on with after a break from the place of the last answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.common.v1 import changes_pb2 as changes
from pharmaloop.production.v1 import service_pb2 as production
from services.kit.errors import Forbidden
from tests.unit.cli.support import PACKED, ROOT, Bench


def answer(lot: str, offset: int) -> production.WatchLotsResponse:
    told = production.WatchLotsResponse(changes=[production.LotChange(lot=lot, reason="seen")])
    told.changes[0].state = production.LOT_STATE_HELD
    told.position.positions.add(topic="lots", partition=0, offset=offset)
    return told


def test_a_broken_stream_goes_on_from_its_last_place(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks = iter([None, KeyboardInterrupt()])

    def pause() -> None:
        if error := next(breaks):
            raise error

    monkeypatch.setattr("services.cli.follow._pause", pause)
    told = iter([[answer(ROOT, 7)], [answer(PACKED, 8)]])
    bench.fake.answers["WatchLots"] = lambda request: next(told)
    result = bench.run("lot", "follow", "--state", "held", "--from-start", "--json")
    assert result.exit_code == 0
    assert [json.loads(line)["lot"] for line in result.stdout.splitlines()] == [ROOT, PACKED]
    first, second = bench.fake.of("WatchLots")
    assert (first.from_start, list(first.states)) == (True, [production.LOT_STATE_HELD])
    assert (second.from_start, second.after.positions[0].offset) == (False, 7)


def test_a_refusal_ends_it(bench: Bench) -> None:
    def refuse(request: Any) -> Any:
        raise Forbidden("you may not")

    bench.fake.answers["WatchAlerts"] = refuse
    result = bench.run("alert", "follow")
    assert result.exit_code == 1
    assert "you may not" in result.stderr


def test_alerts_and_changes_are_a_line_each(bench: Bench) -> None:
    alert = alerting.Alert(level=2, asked="head of quality", latest_text="nobody looked")
    alert.raised.alert = "al-1"
    change = changes.Change(type="pharmaloop.production.v1.LotHeld", id=ROOT)
    bench.fake.answers = {
        "WatchAlerts": lambda request: [alerting.WatchAlertsResponse(alert=alert)],
        "WatchChanges": lambda request: [changes.WatchChangesResponse(changes=[change])],
        "GetAlert": lambda request: alerting.GetAlertResponse(alert=alert),
    }
    assert "level 2, head of quality  nobody looked" in bench.run("alert", "follow").output
    assert f"LotHeld  {ROOT}" in bench.run("change", "follow", "production").output
    assert "head of quality" in bench.run("alert", "show", "al-1").output
