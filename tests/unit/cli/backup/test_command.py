"""What `pharmaloop backup` refuses before it asks anybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from services.cli.main import cli


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No platform is known here."""
    monkeypatch.chdir(tmp_path)
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "MONGODB_URI", "PHARMALOOP_ENDPOINTS", "PHARMALOOP_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """A command sets up the logging of its process, which here is the tests'."""
    were = structlog.get_config()
    yield
    structlog.configure(**were)


def told(*words: str) -> tuple[int, str]:
    answer = CliRunner().invoke(cli, ["backup", *words])
    return answer.exit_code, answer.stderr


def test_without_engines_it_says_how_they_are_named() -> None:
    code, said = told("make", "b")
    assert code == 2
    assert "KAFKA_BOOTSTRAP_SERVERS and MONGODB_URI" in said
    assert not Path("b").exists()


def test_kafka_of_one_platform_and_mongodb_of_another_are_not_taken_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    code, said = told("restore", "b")
    assert code == 2
    assert "set both, or neither" in said


def test_a_folder_that_is_there_is_not_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("MONGODB_URI", "mongodb://127.0.0.1:1")
    (tmp_path / "b").mkdir()
    code, said = told("make", "b")
    assert (code, "exists already" in said) == (2, True)


def test_what_another_attempt_left_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("MONGODB_URI", "mongodb://127.0.0.1:1")
    (tmp_path / "b.unfinished").mkdir()
    code, said = told("make", "b")
    assert (code, "b.unfinished exists" in said) == (2, True)
    assert (tmp_path / "b.unfinished").is_dir()


def test_who_does_not_answer_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("MONGODB_URI", "mongodb://127.0.0.1:1")
    answer = CliRunner().invoke(cli, ["backup", "make", "b"])
    assert answer.exit_code == 3
    assert "127.0.0.1:1" in answer.stderr
    assert answer.stdout == "", "what Kafka's client logs does not stand where a document is looked for"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["verify", "restore"])
def test_what_is_no_backup_is_said_to_be_none(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("MONGODB_URI", "mongodb://127.0.0.1:1")
    code, said = told(verb, "b")
    assert code == 2
    assert "b is no backup" in said
