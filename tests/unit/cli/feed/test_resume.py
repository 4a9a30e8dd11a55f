"""A feed that is stopped goes on; what is sent twice has one effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pharmaloop.traceability.v1 import events_pb2 as trace
from services.cli.feed import send
from services.cli.feed.rejects import Rejects
from services.cli.feed.table import Fault, Row
from services.kit.errors import Retryable
from tests.unit.cli.feed.support import Platform
from tests.unit.cli.feed.test_facts import DISPENSES, dispense, rejects, write

ROWS = 100


@pytest.fixture
def file(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list of 100 dispenses with two bad ones, sent ten at a time."""
    monkeypatch.setattr(send, "_MANY", 10)
    rows = [dispense(n) for n in range(1, ROWS + 1)]
    rows[14] = dispense(15, at="5.3.2026")
    rows[74] = dispense(75, site="hospital-z")
    path = tmp_path / "list.csv"
    write(path, DISPENSES + "".join(rows))
    return path


def feed(platform: Platform, file: Path, *more: str) -> Any:
    return platform.bench.run("feed", "dispenses", str(file), *more)


def document(platform: Platform, file: Path, *more: str) -> Any:
    return json.loads(feed(platform, file, "--json", *more).stdout)


def untouched(platform: Platform, file: Path, tmp_path: Path) -> tuple[list[str], bytes]:
    """The request ids and the rejects of a feed that nothing disturbs."""
    assert feed(platform, file).exit_code == 1
    ids, written = platform.calls("RecordDispense"), file.with_name("list.rejects.csv").read_bytes()
    forget(platform, file)
    return ids, written


def forget(platform: Platform, file: Path) -> None:
    """As if the file had never been fed."""
    for path in (platform.bench.state / "feed").glob("*"):
        path.unlink()
    file.with_name("list.rejects.csv").unlink()
    platform.facts.clear()
    platform.bench.fake.requests.clear()


@pytest.mark.parametrize("calls", [1, 4, 8, 9])
def test_a_second_start_goes_on_where_the_first_was_stopped(
    platform: Platform, file: Path, tmp_path: Path, calls: int
) -> None:
    ids, written = untouched(platform, file, tmp_path)
    platform.failing = calls, Retryable("the log does not answer")
    stopped = feed(platform, file)
    assert stopped.exit_code == 3
    assert "the log does not answer" in stopped.stderr
    assert "the same command goes on from there" in stopped.stderr
    platform.failing = None
    told = document(platform, file)
    assert (told["rows"], told["taken"], told["rejected"]) == (ROWS, ROWS - 2, 2)
    assert len(platform.of(trace.DispenseRecorded)) == ROWS - 2
    assert file.with_name("list.rejects.csv").read_bytes() == written
    assert sorted(set(platform.calls("RecordDispense"))) == sorted(ids)
    assert len([id for id in platform.calls("RecordDispense") if id not in ids]) == 0


def test_an_interrupted_feed_keeps_a_true_file(
    platform: Platform, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes after a batch was sent and before that was noted: it is sent again, under the same id."""
    ids, written = untouched(platform, file, tmp_path)
    answer = platform.bench.fake.answers["RecordDispense"]
    seen: list[str] = []

    def interrupted(self: send.Feed, row: int) -> None:
        seen.append(str(row))
        if len(seen) == 8:
            raise KeyboardInterrupt
        checkpoint(self, row)

    checkpoint = send.Feed.checkpoint
    monkeypatch.setattr(send.Feed, "checkpoint", interrupted)
    stopped = feed(platform, file)
    assert stopped.exit_code == 2
    assert "stopped; " in stopped.stderr
    monkeypatch.setattr(send.Feed, "checkpoint", checkpoint)
    platform.bench.fake.answers["RecordDispense"] = answer
    assert document(platform, file)["taken"] == ROWS - 2
    sent = platform.calls("RecordDispense")
    assert sorted(set(sent)) == sorted(ids)
    assert len(sent) == len(ids) + 1
    assert file.with_name("list.rejects.csv").read_bytes() == written
    assert len(platform.of(trace.DispenseRecorded)) == ROWS - 2


def test_the_same_file_twice_has_one_effect(platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "good.csv"
    write(file, DISPENSES + dispense(1) + dispense(2))
    assert feed(platform, file).exit_code == 0
    calls = platform.calls("RecordDispense")
    again = document(platform, file)
    assert again["files"][0]["taken_before"] is True
    assert again["taken"] == 2
    assert platform.calls("RecordDispense") == calls
    assert "taken before, all 2 rows" in feed(platform, file).stdout
    assert document(platform, file, "--again")["taken"] == 2
    assert len(platform.of(trace.DispenseRecorded)) == 2


def test_without_its_progress_the_same_requests_are_made(
    platform: Platform, file: Path, tmp_path: Path
) -> None:
    ids, _ = untouched(platform, file, tmp_path)
    assert feed(platform, file).exit_code == 1
    assert platform.calls("RecordDispense") == ids


def test_another_mapping_another_file_another_platform_begins_anew(
    platform: Platform, tmp_path: Path
) -> None:
    file = tmp_path / "good.csv"
    write(file, DISPENSES + dispense(1))
    assert document(platform, file)["files"][0]["taken_before"] is False
    assert document(platform, file, "--zone", "UTC")["files"][0]["taken_before"] is False
    assert document(platform, file, "--as", "hospital")["files"][0]["taken_before"] is False
    platform.bench.services = (*platform.bench.services, "elsewhere")
    assert document(platform, file)["files"][0]["taken_before"] is False
    write(file, DISPENSES + dispense(1) + dispense(2))
    assert document(platform, file)["files"][0]["taken_before"] is False
    assert document(platform, file)["files"][0]["taken_before"] is True


def test_what_was_rejected_is_tried_again(platform: Platform, file: Path) -> None:
    """The service may know the site by now."""
    assert feed(platform, file).exit_code == 1
    calls = len(platform.calls("RecordDispense"))
    assert document(platform, file)["rejected"] == 2
    ids = platform.calls("RecordDispense")
    assert len(ids) == 2 * calls
    assert len(set(ids)) == len(ids)
    assert len(rejects(file.with_name("list.rejects.csv"))) == 2


def test_a_rejects_file_that_was_shortened_meanwhile_is_made_anew(platform: Platform, file: Path) -> None:
    platform.failing = 8, Retryable("not now")
    assert feed(platform, file).exit_code == 3
    platform.failing = None
    file.with_name("list.rejects.csv").write_text("file,row,field,rule,message\n")
    assert document(platform, file)["taken"] == ROWS - 2
    assert [row["row"] for row in rejects(file.with_name("list.rejects.csv"))] == ["16", "76"]


def test_a_progress_file_that_is_garbage_begins_anew(platform: Platform, file: Path) -> None:
    assert feed(platform, file).exit_code == 1
    (kept,) = (platform.bench.state / "feed").glob("*.json")
    kept.write_text("{")
    assert document(platform, file)["taken"] == ROWS - 2


def test_without_a_platforms_folder_progress_stands_beside_the_file(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cli.feed.command.state_dir", lambda: None)
    file = tmp_path / "good.csv"
    write(file, DISPENSES + dispense(1))
    assert feed(platform, file).exit_code == 0
    assert len(list((tmp_path / ".pharmaloop-feed").glob("dispenses-*.json"))) == 1


def test_a_disk_that_is_full_stops_with_a_sentence_and_goes_on(
    platform: Platform, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Rejects, row: Row, fault: Fault) -> None:
        raise OSError(28, "No space left on device", str(self.path))

    add = Rejects.add
    monkeypatch.setattr(Rejects, "add", full)
    stopped = feed(platform, file)
    assert (stopped.exit_code, stopped.stdout) == (2, "")
    assert "No space left on device" in stopped.stderr
    assert "dealt with up to row 11" in stopped.stderr
    monkeypatch.setattr(Rejects, "add", add)
    assert document(platform, file)["taken"] == ROWS - 2
    assert len(rejects(file.with_name("list.rejects.csv"))) == 2


def test_several_files_are_fed_one_after_the_other(platform: Platform, tmp_path: Path) -> None:
    """One that is no table stops there; what came before it is told."""
    good, bad, never = (tmp_path / f"{name}.csv" for name in ("good", "bad", "never"))
    write(good, DISPENSES + dispense(1))
    write(bad, "")
    write(never, DISPENSES + dispense(2))
    result = platform.bench.run("feed", "dispenses", *map(str, (good, bad, never)))
    assert result.exit_code == 2
    assert "good.csv: 1 rows, 1 taken" in result.stdout
    assert "bad.csv is empty" in result.stderr
    assert len(platform.of(trace.DispenseRecorded)) == 1
