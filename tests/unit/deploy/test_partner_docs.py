"""What the partners' pages say of the code is what the code says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from deploy.local.stamps import ROOT
from deploy.partners import errors, limits
from services.kit.rpc import api
from services.kit.rpc.errors import AGAIN, GO_ON
from services.kit.settings import ServiceSettings
from services.production.domain.readings import MAX_SAMPLES

DOCS = ROOT / "docs" / "partners"
PAGES = sorted(DOCS.glob("*.md"))
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
_REASON = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_inside_the_kit(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        target = (page.parent / link).resolve()
        assert target.exists(), f"{page.name}: {link}"
        assert DOCS in target.parents, f"{page.name}: {link} is not in the kit"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_reasons_that_a_page_names_are_in_the_table(page: Path) -> None:
    known = {one.reason for one in errors.reasons()} | set(errors.AGAIN) | {"ENHANCE_YOUR_CALM"}
    assert set(_REASON.findall(page.read_text())) <= known


def test_the_limits_are_those_of_the_code() -> None:
    page = limits.PAGE.read_text()
    assert limits.in_page(page) == page, "the table is old: run 'make partner-kit'"
    # Some of them by another way, so that the table does not vouch for itself.
    settings = ServiceSettings()
    assert f"| {settings.max_request_bytes:,} bytes |" in page
    assert f"| {settings.most_subscriptions:,} |" in page
    assert f"| {settings.most_subscriptions_of_actor:,} |" in page
    assert f"| {api._DEFAULT_PAGE:,} items, {api._LARGEST_PAGE:,} at most |" in page
    assert f"| {MAX_SAMPLES:,} |" in page


def test_every_subscription_that_resumes_is_on_the_page_of_positions() -> None:
    page = (DOCS / "positions.md").read_text()
    calls = {
        call
        for proto in (ROOT / "proto" / "pharmaloop").rglob("*.proto")
        for call in re.findall(
            r"message (Watch\w+)Request \{[^}]*PositionVector after = ", proto.read_text(), re.DOTALL
        )
    }
    assert calls >= {"WatchLots", "WatchChanges", "WatchRuns", "WatchAlerts"}
    assert {call for call in calls if f"| `{call}` |" not in page} == set()


#: A constant that says how much is too much, by its name.
_MUCH = re.compile(r"_?(MOST|LONGEST|LARGEST|MAX|DEEPEST|CELLS)(_[A-Z]+)*")


def _limits_that_refusals_tell() -> Iterator[tuple[Path, str]]:
    """File and name of every such constant that stands in the sentence of a refusal."""
    for service in errors.SERVICES:
        for path in sorted((ROOT / "services" / service).rglob("*.py")):
            functions = (
                node
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not errors.of_operators(path)
            )
            for function in functions:
                inside = list(ast.walk(function))
                called = {ast.unparse(n.func).rpartition(".")[2] for n in inside if isinstance(n, ast.Call)}
                told = [n for text in inside if isinstance(text, ast.JoinedStr) for n in ast.walk(text)]
                if called & set(errors.CODES):
                    yield from (
                        (path, name.id)
                        for name in told
                        if isinstance(name, ast.Name) and _MUCH.fullmatch(name.id)
                    )


def test_every_limit_that_a_refusal_tells_has_a_row() -> None:
    numbers = [number for one in limits.LIMITS for number in one.numbers]
    known = {(number.partition(":")[2], str(limits.value(number))) for number in numbers}
    missing = set()
    for path, name in _limits_that_refusals_tell():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if (name, str(limits.value(f"{module}:{name}"))) not in known:
            missing.add(f"{module}:{name}")
    assert missing == set(), "give it a row in deploy/partners/limits.py"


#: Where each example says which statuses pass, and how it writes one.
_EXAMPLES = {
    "python/partner.py": (r"^AGAIN = \{(.*?)\}", r"^GO_ON = AGAIN \| \{(.*?)\}", r"StatusCode\.(\w+)"),
    "go/calls.go": (r"^var again = .*?\{(.*?)^\}", r"^var goOn = .*?\{(.*?)^\}", r'"(\w+)"'),
    "java/src/main/java/com/example/partner/Calls.java": (
        r"\bAGAIN =\s+Set\.of\((.*?)\);",
        r"\bGO_ON =\s+Set\.of\((.*?)\);",
        r"Status\.Code\.(\w+)",
    ),
}


def _names(statuses: frozenset[grpc.StatusCode]) -> set[str]:
    return {status.name for status in statuses}


def test_the_table_of_statuses_says_which_are_tried_again() -> None:
    page = (DOCS / "errors.md").read_text()
    told = page.partition("<!-- statuses -->")[2].partition("<!-- end statuses -->")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.strip().splitlines()]
    table = {status: (call, watch) for status, _, call, watch in rows[2:]}
    assert {status for status, (call, _) in table.items() if call.startswith("yes")} == _names(AGAIN)
    assert {status for status, (_, watch) in table.items() if watch.startswith("yes")} == _names(GO_ON)


@pytest.mark.parametrize("page", ["errors.md", "quickstart.md", "idempotency.md", "compatibility.md"])
def test_pages_name_the_same_statuses_to_try_again(page: str) -> None:
    words = " ".join((DOCS / page).read_text().split())
    told = re.findall(r"\b((?:[A-Z_]{7,}, )+[A-Z_]{7,} (?:or|and) [A-Z_]{7,})", words)
    lists = [set(re.findall(r"[A-Z_]{7,}", one)) for one in told]
    assert _names(AGAIN) in lists
    assert all(one == _names(AGAIN) for one in lists if "UNAVAILABLE" in one)


@pytest.mark.parametrize("example", _EXAMPLES)
def test_examples_try_the_same_statuses_again(example: str) -> None:
    text = (ROOT / "examples" / example).read_text()
    again, go_on, status = _EXAMPLES[example]
    found = [re.search(rule, text, re.DOTALL | re.MULTILINE) for rule in (again, go_on)]
    calls, more = (set(re.findall(status, one.group(1))) if one else set() for one in found)
    assert calls == _names(AGAIN)
    assert calls | more == _names(GO_ON)
