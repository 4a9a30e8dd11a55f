"""`drill`: the command becomes the drill's own process, or says why not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli.main import cli

ROOT = Path(__file__).parents[3]


class Became(Exception):
    """What the process was replaced by."""


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Remembers the command line instead of becoming it."""
    command: list[str] = []

    def become(program: str, words: list[str]) -> None:
        assert program == sys.executable
        command.extend(words[1:])
        raise Became

    monkeypatch.setattr(os, "execv", become)
    monkeypatch.chdir(ROOT / "tests")
    monkeypatch.delenv("PHARMALOOP_STATE_DIR", raising=False)
    return command


def test_it_becomes_the_drill_with_what_it_was_told(
    replaced: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PHARMALOOP_STATE_DIR", str(tmp_path))
    words = ["drill", "run", "site-down", "--site", "hospital-c", "--as-shipped", "--json"]
    assert isinstance(CliRunner().invoke(cli, words).exception, Became)
    told = ["run", "site-down", "--site", "hospital-c", "--as-shipped", "--json"]
    assert replaced == ["-m", "deploy.drill", *told]
    assert Path.cwd() == ROOT
    assert os.environ["PHARMALOOP_STATE_DIR"] == str(tmp_path)


@pytest.mark.parametrize("verb", ["list", "undo"])
def test_each_verb_is_one_of_the_drill(replaced: list[str], verb: str) -> None:
    assert isinstance(CliRunner().invoke(cli, ["drill", verb]).exception, Became)
    assert replaced == ["-m", "deploy.drill", verb]


def test_another_platform_than_this_checkouts_is_not_broken(replaced: list[str]) -> None:
    done = CliRunner().invoke(cli, ["--endpoints", '{"rnd": "h:1"}', "drill", "run", "poison"])
    assert (done.exit_code, replaced) == (2, [])
    assert "leave --endpoints out" in done.stderr


def test_outside_of_a_checkout_it_says_where_to_go(
    replaced: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["drill", "list"])
    assert (done.exit_code, replaced) == (2, [])
    assert "deploy/drill" in done.stderr
