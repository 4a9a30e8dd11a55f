"""Who runs as which instance, when another may take its place, and which other processes live."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.charts.catalogue import WORKLOADS
from services.kit import presence
from services.kit.errors import Retryable
from services.kit.presence import SILENT_SECONDS, Holder, Presence, this_process

ME = this_process()
_WALL = datetime(2026, 3, 1, tzinfo=UTC).isoformat()


class _Rows:
    """The rows of presence, as far as they are asked for here."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def put(self, id: str, holder: Holder, beat: int = 0) -> None:
        self.rows[id] = {"_id": id, "holder": asdict(holder), "beat": beat, "wall": _WALL, "since": _WALL}

    def find(self, query: dict[str, Any], fields: object) -> list[dict[str, Any]]:
        mine = query["_id"]["$ne"]
        return [r for r in self.rows.values() if r["_id"] != mine and r["holder"]["token"]]

    def find_one(self, query: dict[str, Any]) -> dict[str, Any] | None:
        row = self.rows.get(query["_id"])
        return dict(row) if row else None

    def insert_one(self, row: dict[str, Any]) -> None:
        assert row["_id"] not in self.rows
        self.rows[row["_id"]] = dict(row)

    def update_one(self, mark: dict[str, Any], change: dict[str, Any]) -> Any:
        row = self.rows[mark["_id"]]
        found = (row["holder"]["token"], row["beat"]) == (mark["holder.token"], mark["beat"])
        if found:
            row |= {**change["$set"], "beat": row["beat"] + 1}
        return SimpleNamespace(matched_count=int(found))

    def presence(self, instance: str = "0", *, alone: bool = False) -> Presence:
        probe: Any = SimpleNamespace(database="pharmaloop_rnd", collection=lambda name: self)
        return Presence(probe, "rnd", instance, "all", True, alone=alone)


def _dead_number() -> int:
    """The number of a process that is gone."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.mark.parametrize(
    "other",
    [
        replace(ME, host="another-pod"),
        replace(ME, boot=ME.boot.partition(" ")[0] + " pid:[1]"),
        replace(ME, boot=ME.boot.partition(" ")[0]),
        replace(ME, boot=""),
        replace(ME, host="another-pod", pid=1, born="77"),
    ],
    ids=["another host", "another container of that name", "an older version", "not known", "first of a pod"],
)
def test_what_cannot_be_seen_is_not_dead(other: Holder) -> None:
    """Its process has our number, and here ours is another's, or nobody's."""
    assert not other.is_dead(ME)
    assert not replace(other, born="1").is_dead(ME)
    assert not replace(other, pid=_dead_number()).is_dead(ME)


def test_a_process_that_numbers_alike_sees_who_lives() -> None:
    assert replace(ME, pid=_dead_number()).is_dead(ME)
    assert replace(ME, born="1").is_dead(ME), "our number was an earlier process's"
    assert replace(ME, token="earlier").is_dead(ME), "a service of this very process"
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        lives = replace(ME, pid=sleeper.pid, born=presence._born(sleeper.pid))
        assert not lives.is_dead(ME)
    finally:
        sleeper.communicate()
    assert lives.is_dead(ME)


def test_unknown_numbering_is_never_alike() -> None:
    nowhere = replace(ME, boot="", born="")
    assert not replace(nowhere, pid=_dead_number()).is_dead(nowhere)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("services.kit.presence.time.monotonic", lambda: now[0])
    return now


def test_the_place_of_a_process_elsewhere_is_taken_when_its_row_has_stood_still(watch: list[float]) -> None:
    """A pod was killed: its successor has the same number, and nobody can see that the first is gone."""
    rows = _Rows()
    rows.put("0", replace(ME, host="old-pod", token="old"), beat=7)
    mine = rows.presence()
    for _ in range(2):
        with pytest.raises(Retryable, match=r"process \d+ on old-pod runs as this instance"):
            mine.claim()
    watch[0] += SILENT_SECONDS + 0.1
    assert mine.claim() == datetime.fromisoformat(_WALL)
    assert rows.rows["0"]["holder"]["host"] == ME.host


def test_the_place_of_one_that_beats_is_not_taken(watch: list[float]) -> None:
    rows = _Rows()
    mine = rows.presence()
    for beat in range(5):
        rows.put("0", replace(ME, host="other-pod", token="other"), beat=beat)
        with pytest.raises(Retryable):
            mine.claim()
        watch[0] += SILENT_SECONDS - 1


def test_a_service_that_runs_as_one_process_runs_once_on_a_database(watch: list[float]) -> None:
    """Two releases on one database: their pods are called differently, and both would speak for the same."""
    rows = _Rows()
    assert rows.presence("one-exchange-0", alone=True).claim() is None
    rows.put(presence.ONLY, replace(ME, host="one-exchange-0", token="one"), beat=3)
    with pytest.raises(Retryable) as refused:
        rows.presence("two-exchange-0", alone=True).claim()
    said = str(refused.value)
    assert "PHARMALOOP_RND_DATABASE=pharmaloop_rnd" in said
    assert "on one-exchange-0 works there" in said
    assert "a database of its own" in said
    assert rows.presence("two-exchange-0").claim() is None, "others share their work"


def test_who_runs_as_one_process_in_a_cluster_does_so_on_its_database() -> None:
    assert {workload.service for workload in WORKLOADS if workload.spec.alone} == {
        workload.service for workload in WORKLOADS if workload.alone
    }


def test_another_process_is_one_whose_row_moves() -> None:
    rows = _Rows()
    mine = rows.presence()
    rows.put("0", ME, 5)
    assert not mine.others()
    rows.put("0", ME, 6)
    rows.put("1", replace(ME, token="killed"), 9)
    rows.put("2", replace(ME, token=""), 9)
    assert not mine.others()
    assert not mine.others(), "a row that stands still is of a process that was killed"
    rows.put("api/0", ME, 1)
    assert not mine.others()
    rows.put("api/0", ME, 2)
    assert mine.others()
