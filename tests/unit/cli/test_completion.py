"""Nouns, verbs, options and their values are completed by the shell; the page of commands is as the code."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli.main import cli
from services.cli.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


def completed(line: str) -> set[str]:
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    environment = {
        "_PHARMALOOP_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    told = CliRunner().invoke(cli, [], env=environment, prog_name="pharmaloop").output
    return {offer.partition(",")[2] for offer in told.splitlines()}


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("pharmaloop dev", {"deviation"}),
        ("pharmaloop capa ", {"approve", "check", "file", "list", "refuse", "show", "validate"}),
        ("pharmaloop deviation list --st", {"--state"}),
        ("pharmaloop deviation classify --severity m", {"minor", "major"}),
        ("pharmaloop wor", {"world"}),
        ("pharmaloop world inc", {"incident"}),
    ],
)
def test_a_word_is_completed(line: str, offers: set[str]) -> None:
    assert completed(line) == offers


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_its_script(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert f"_PHARMALOOP_COMPLETE={shell}_complete" in result.output


def test_the_page_of_commands_says_what_the_code_does() -> None:
    assert PAGE.read_text() == reference(), "docs/cli.md is stale: make docs-cli"
