"""The matrix names each test once, and with what runs it; what lacks evidence is told."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.local.evidence import Collector, problems, render

REQUIREMENTS = {"X1": {"text": "one\n"}, "X2": {"text": "two"}}


class Item:
    """A collected test with its marks."""

    def __init__(self, nodeid: str, *marks: pytest.Mark) -> None:
        self.nodeid = nodeid
        self._marks = marks

    def iter_markers(self, name: str) -> Iterator[pytest.Mark]:
        return (mark for mark in self._marks if mark.name == name)

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next(self.iter_markers(name), None)


@pytest.fixture
def tests() -> dict[str, list[str]]:
    both, second = pytest.mark.req("X1", "X2").mark, pytest.mark.req("X2").mark
    session: Any = SimpleNamespace(
        items=[
            Item("test_x.py::test_many[1]", both),
            Item("test_x.py::test_many[2]", both),
            Item("test_x.py::test_long", second, pytest.mark.faults.mark),
        ]
    )
    collector = Collector()
    collector.pytest_collection_finish(session)
    return collector.tests


def test_a_test_is_named_once_and_with_what_runs_it(tests: dict[str, list[str]]) -> None:
    assert problems(REQUIREMENTS, tests) == []
    rows = [line for line in render(REQUIREMENTS, tests).splitlines() if line.startswith("| X")]
    assert rows == [
        "| X1 | one | `test_x.py::test_many` |",
        "| X2 | two | `test_x.py::test_many`<br>`test_x.py::test_long` (make faults) |",
    ]


def test_what_has_no_test_and_what_nobody_asks_for_is_told(tests: dict[str, list[str]]) -> None:
    told = problems({"X1": {"text": ""}, "X3": {"text": ""}}, tests)
    assert told == ["X3 has no test", "`test_x.py::test_many` names X2, which requirements.yaml lacks"]
