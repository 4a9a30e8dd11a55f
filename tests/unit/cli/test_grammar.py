"""The grammar as a whole: every call has a verb, every verb examples, and what is written down exists."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.common.v1 import operations_pb2 as operations
from pharmaloop.common.v1 import service_pb2 as common
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.rnd.v1 import service_pb2 as rnd
from pharmaloop.traceability.v1 import service_pb2 as trace
from services.cli.main import cli

ROOT = Path(__file__).parents[3]
CALLS = (alerting, clinical, operations, common, exchange, loops, production, rnd, trace)
#: Services that only programs call, and calls that are theirs in a service for people.
FOR_PROGRAMS = {"SiteService", "EvaluatorService", "GetCohort"}
WHOLE = {"status", "verify", "completion"}


def commands(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that is no group, by what one types."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from commands(below, (*path, name))


ALL = dict(commands())


def examples(command: click.Command) -> list[str]:
    lines = (command.epilog or "").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("pharmaloop ")]


def test_everything_is_a_noun_and_a_verb() -> None:
    assert {name for name in ALL if len(name.split()) != 2} == WHOLE


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_help_and_examples_that_can_be_typed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ALL[name]
    assert command.get_short_help_str()
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option)), (
        f"an option of {name} has no help"
    )
    monkeypatch.chdir(tmp_path)
    told = examples(command)
    assert told
    for example in told:
        words = shlex.split(example.partition(" > ")[0])[1:]
        assert " ".join(words).startswith(name)
        for word in words:
            if re.search(r"\.(json|csv|yaml)$", word):
                (tmp_path / word).touch()
        rest = words[len(name.split()) :]
        command.make_context(name, list(rest), obj=cli_session())


def cli_session() -> object:
    from services.cli.session import Session

    return Session()


def test_every_call_that_a_person_may_make_has_a_command() -> None:
    source = "\n".join(file.read_text() for file in (ROOT / "services" / "cli").rglob("*.py"))
    missing = [
        f"{service.name}.{method.name}"
        for module in CALLS
        for service in module.DESCRIPTOR.services_by_name.values()
        if service.name not in FOR_PROGRAMS
        for method in service.methods
        if method.name not in FOR_PROGRAMS and not re.search(rf"\.{method.name}\b", source)
    ]
    assert not missing, f"no command offers {missing}"


def test_every_command_that_is_written_somewhere_exists() -> None:
    known: dict[str, set[str]] = {name.split()[0]: set() for name in ALL}
    for name in ALL:
        known[name.split()[0]] |= set(name.split()[1:])
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wrong = []
    for file in listed.split():
        path = ROOT / file
        if not file.endswith((".md", ".py", ".yaml", "Makefile")) or not path.is_file():
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for noun, verb in re.findall(
                r"[`'(\"]pharmaloop (?:--actor [\w-]+ )?([a-z-]+)(?: ([a-z-]+))?\b", line
            ) + re.findall(r"^ *pharmaloop (?:--actor [\w-]+ )?([a-z-]+)(?: ([a-z-]+)(?![\w|]))?", line):
                if noun in ("parameter", "secure", "contribution", "valuation"):
                    continue  # texts of keys, not commands
                if noun not in known or (verb and known[noun] and verb not in known[noun]):
                    wrong.append(f"{file}:{number}: pharmaloop {noun} {verb}")
    assert not wrong, "\n".join(wrong)
