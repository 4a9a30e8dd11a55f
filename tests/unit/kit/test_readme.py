"""The README's example is a service: it runs as it is written there, and does what the text says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.production.v1 import events_pb2 as production
from services.kit.runners.letters import LETTERS
from tests.unit.kit.support import Bench, Turner, lot_event

README = Path(__file__).parents[3] / "services/kit/README.md"
ALERTS = "pharmaloop.alerting.alert.v1"
A = "m/item/G/a"


def block() -> str:
    """The code under the heading that promises twenty lines."""
    _, _, after = README.read_text().partition("## A reactor in twenty lines")
    found = re.search(r"```python\n(.*?)```", after, re.DOTALL)
    assert found, "the example is gone"
    return found[1]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The block as a module of a stranger."""
    file = tmp_path_factory.mktemp("stranger") / "readme_example.py"
    file.write_text(block())
    spec = spec_from_file_location("readme_example", file)
    assert spec
    assert spec.loader
    sys.modules["readme_example"] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["readme_example"]


class Watcher:
    """The example's service over memory."""

    def __init__(self, example: Any) -> None:
        self.bench = Bench(service=example.SPEC.name)
        self.turners = [Turner(self.bench, reactor) for reactor in example.SPEC.reactors]

    def settle(self) -> None:
        while sum(turner.settle() for turner in self.turners):
            pass

    def alerts(self) -> list[alerting.AlertRaised]:
        rows = [row for row in self.bench.database.outbox.values() if row.topic == ALERTS]
        return [alerting.AlertRaised.FromString(row.value) for row in rows]


@pytest.fixture
def watcher(example: Any) -> Watcher:
    return Watcher(example)


def test_it_has_twenty_lines() -> None:
    service, _, start = block().partition("if __name__")
    lines = [line for line in service.splitlines() if line and not line.startswith(("from ", "import "))]
    assert len(lines) <= 20
    assert "main(SPEC)" in start


def test_it_raises_an_alert_when_a_lot_is_held(watcher: Watcher) -> None:
    watcher.bench.send(lot_event(A, 1), lot_event(A, 2, production.LotHeld(lot=A, reason="DryerTemp")))
    watcher.settle()
    (alert,) = watcher.alerts()
    assert (alert.alert, alert.text) == (A, "m/item/G: DryerTemp")


def test_the_event_waits_for_its_lot(watcher: Watcher) -> None:
    lots, holds = watcher.turners
    watcher.bench.send(lot_event(A, 1), lot_event(A, 2, production.LotHeld(lot=A)))
    holds.settle()  # the other runner is slower
    assert watcher.alerts() == []
    assert holds.runner.status.waiting == 1
    lots.settle()
    holds.settle()
    assert len(watcher.alerts()) == 1


def test_what_comes_twice_is_told_once(watcher: Watcher) -> None:
    for _ in range(2):
        watcher.bench.send(lot_event(A, 1), lot_event(A, 2, production.LotHeld(lot=A)))
        watcher.settle()
    assert len(watcher.alerts()) == 1
    assert watcher.bench.states(LETTERS) == {}


def test_its_lots_are_a_view_that_can_be_made_anew(watcher: Watcher, example: Any) -> None:
    lots, holds = example.SPEC.reactors
    assert lots.views == (example.LOTS,)
    assert holds.views == ()
    watcher.bench.send(lot_event(A, 1))
    watcher.settle()
    Turner(watcher.bench, lots, 2, 1).settle()
    assert watcher.bench.states(example.LOTS.pinned(2)) == watcher.bench.states(example.LOTS) != {}
