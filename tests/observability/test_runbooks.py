"""Runbooks: one for each alert, none beside, and what they tell somebody to type can be typed."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import click
import pytest
from fastapi.routing import APIRoute
from starlette.routing import compile_path

from services.cli.dlq import Wanted, discard, redrive
from services.cli.group import PROGRAM
from services.cli.main import cli
from services.portal.pages import ROUTERS
from tests.observability.conftest import ALERTS, RECORDED, ROOT, RUNBOOKS, Rule
from tests.observability.promql import KNOWN, OF_COUNTERS, grouped_by, selectors

BOOKS = sorted(file for file in RUNBOOKS.glob("*.md") if file.stem != "README")
SECTIONS = ["What it means", "Who is hurt", "Look first", "Mend", "Verify", "What not to do"]
#: What came when it was followed, by a drill or by hand.
AS_RUN = "As run"
PATHS = [
    compile_path(route.path)[0]
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and "GET" in (route.methods or ())
]
#: Words that are to be replaced, with what might take their place.
FOR = {
    "RUN": "r-7",
    "SITE": "hospital-a",
    "RUNNER": "rnd.insights",
    "VIEW": "traceability.dossier",
    "LETTER": "'rnd.insights|pharmaloop.production.capa.v1|0|17'",
    "LOT": "maker-1/item/granulate/G-0041",
    "DISPENSE": "d-31",
}
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(file: Path, language: str) -> Iterator[str]:
    for found, text in _BLOCK.findall(file.read_text().partition(f"## {AS_RUN}\n")[0]):
        assert found in ("sh", "promql"), f"{found}: somebody types it, or Prometheus is asked it"
        if found == language:
            yield text


def parse(line: str) -> None:
    """Parse a line as the command would, and do nothing. ClickException says what is wrong with it."""
    for word in re.findall(r"(?<= )[A-Z]{3,}\b", line):
        line = re.sub(rf"(?<= ){word}\b", FOR[word], line)
    program, *words = shlex.split(line)
    assert program == PROGRAM
    context = cli.make_context(PROGRAM, words)
    command: click.Command = cli
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None, line
        command, context = found, found.make_context(name, rest, parent=context)
    if command in (redrive, discard):
        given = {name: context.params[name] for name in ("letters", "service", "runner")}
        assert Wanted(**given).narrows, f"{line}: asks which letters are meant"


@pytest.mark.req("N5")
def test_there_is_a_runbook_for_each_alert_and_none_beside() -> None:
    assert {file.stem for file in BOOKS} == {rule.name for rule in ALERTS}
    for rule in ALERTS:
        assert rule.annotations["runbook_url"] == f"docs/runbooks/{rule.name}.md"


def test_the_list_of_runbooks_has_each_of_them() -> None:
    listed = re.findall(r"\]\((\w+)\.md\)", (RUNBOOKS / "README.md").read_text())
    assert sorted(listed) == [file.stem for file in BOOKS]


@pytest.mark.parametrize("file", BOOKS, ids=lambda file: file.stem)
def test_a_runbook_says_what_to_do_and_what_not(file: Path) -> None:
    text = file.read_text()
    assert text.startswith(f"# {file.stem}\n")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections == [*SECTIONS, AS_RUN], "each was followed"
    for part in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        assert len(part.strip()) > 30
    severities = {rule.severity for rule in ALERTS if rule.name == file.stem}
    first = text.split("## ")[0]
    assert all(word in first for word in severities)
    for other in re.findall(r"\]\(([^)]+)\)", text):
        assert (RUNBOOKS / other).exists(), other
    assert list(blocks(file, "promql"))


@pytest.mark.parametrize("file", BOOKS, ids=lambda file: file.stem)
def test_what_it_tells_to_type_can_be_typed(file: Path) -> None:
    lines = [line for block in blocks(file, "sh") for line in block.splitlines()]
    assert lines
    for line in lines:
        if line.startswith(".venv/bin/python -m "):
            assert importlib.util.find_spec(line.split()[2]), line
        else:
            parse(line)


@pytest.mark.parametrize("file", BOOKS, ids=lambda file: file.stem)
def test_what_it_asks_prometheus_exists(file: Path) -> None:
    for text in blocks(file, "promql"):
        for one in selectors(text):
            made = [rule for rule in RECORDED if rule.name == one.name]
            if made:
                assert one.labels <= grouped_by(made[0].expr)
                continue
            assert one.name in KNOWN, one.name
            assert one.labels <= KNOWN[one.name].labels
            assert (one.function in OF_COUNTERS) == KNOWN[one.name].rises, text


@pytest.mark.parametrize("file", BOOKS, ids=lambda file: file.stem)
def test_what_was_run_is_a_dated_copy_of_what_it_tells(file: Path) -> None:
    told, _, shown = file.read_text().partition(f"## {AS_RUN}\n")
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", shown), "when"
    assert re.search(r"`make drill NAME=([a-z-]+)`|\bby hand\b", shown), "by which drill, or by hand"
    assert all(language == "text" for language, _ in _BLOCK.findall(shown))
    typed = re.findall(r"^\$ (pharmaloop [a-z]+)", shown, re.MULTILINE)
    assert typed
    assert all(command in told for command in typed)


def test_a_command_that_does_not_exist_would_be_found() -> None:
    for words in ("run lst", "run list --state late", "dlq discard x"):
        with pytest.raises(click.ClickException):
            parse(f"pharmaloop {words}")
    parse("pharmaloop run list --state stalled")


@pytest.mark.parametrize("rule", ALERTS, ids=str)
def test_an_alert_leads_to_a_page_of_the_portal(rule: Rule) -> None:
    filled = re.sub(r"\{\{.*?\}\}", "some-1", rule.annotations["portal"])
    place = urlsplit(filled)
    assert not place.netloc
    assert any(path.match(place.path) for path in PATHS), filled
    assert set(parse_qs(place.query)) <= {"loop", "state"}


def test_pages_that_runbooks_name_exist() -> None:
    for file in BOOKS:
        for place in re.findall(r"`(/[a-z]+[^` ]*)`", file.read_text()):
            assert any(path.match(urlsplit(place).path) for path in PATHS), (file.stem, place)
    assert ROOT.joinpath("docs", "runbooks").samefile(RUNBOOKS)
