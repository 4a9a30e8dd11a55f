"""What a person sees of the logs: every line once, and of the engines only what matters."""

import io
import json
from pathlib import Path

from deploy.local.logs import KafkaWarnings, LogTail, Printer, mongod_warnings


def test_a_tail_shows_whole_lines_from_where_the_file_ended(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text("before\n")
    tail = LogTail("production", file)
    with file.open("a") as log:
        log.write("one\ntw")
        log.flush()
        assert tail.new_lines() == ["one"]
        log.write("o\n")
    assert tail.new_lines() == ["two"]
    assert tail.new_lines() == []


def test_a_tail_survives_a_file_that_appears_late_is_rotated_and_emptied(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    tail = LogTail("production", file)
    assert tail.new_lines() == []
    file.write_text("first\n")
    assert tail.new_lines() == ["first"]
    file.rename(tmp_path / "a.log.1")
    file.write_text("after rotation\n")
    assert tail.new_lines() == ["after rotation"]
    file.write_text("short\n")
    assert tail.new_lines() == ["short"]


def test_of_kafka_warnings_are_shown_with_the_lines_that_follow_them() -> None:
    shown = KafkaWarnings()
    lines = [
        "[2026-01-01 00:00:00,000] INFO  started (kafka.Kafka)",
        "[2026-01-01 00:00:00,000] WARN  [QuorumController id=1] Performing controller activation. (q)",
        "[2026-01-01 00:00:01,000] ERROR  disk failed (kafka.Log)",
        "java.io.IOException: no space",
        "[2026-01-01 00:00:02,000] INFO  going on (kafka.Kafka)",
        "  a continuation of it",
    ]
    assert [line for line in lines if shown(line)] == lines[2:4]


def entry(severity: str, **more: object) -> str:
    return json.dumps(
        {"t": {"$date": "2026-01-01T00:00:00Z"}, "s": severity, "msg": "slow", "attr": {"ms": 9}} | more
    )


def test_of_mongod_warnings_are_shown_in_one_readable_line() -> None:
    assert mongod_warnings(entry("I")) is None
    assert mongod_warnings(entry("W")) == '2026-01-01T00:00:00Z W slow {"ms": 9}'
    assert mongod_warnings(entry("W", tags=["startupWarnings"])) is None
    assert mongod_warnings("*** aborting") == "*** aborting"


def test_lines_are_prefixed_and_plain_where_nobody_looks() -> None:
    out = io.StringIO()
    Printer(["rnd", "production"], out).line("rnd", "hello")
    assert out.getvalue() == "rnd        | hello\n"
