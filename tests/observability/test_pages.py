"""The page of metrics is the registry's, and what pages name exists."""

from __future__ import annotations

import re

from deploy.watch import page
from tests.observability.conftest import ALERTS, ROOT
from tests.observability.promql import KNOWN

_METRIC = re.compile(r"pharmaloop_[a-z_]+[a-z]")


def test_the_page_of_metrics_is_made_from_the_registry() -> None:
    assert page.PAGE.read_text() == page.text(), "run: python -m deploy.watch.page"


def test_what_pages_say_of_metrics_is_there() -> None:
    names = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in KNOWN}
    for file in (ROOT / "docs" / "watching.md", ROOT / "services" / "loops" / "README.md"):
        told = set(_METRIC.findall(file.read_text()))
        assert told - {name for name in told if name.endswith("_runner")} <= names, file


def test_every_file_of_alerts_is_told_of() -> None:
    told = (ROOT / "docs" / "watching.md").read_text()
    assert all(rule.file.name.partition(".")[0] in told for rule in ALERTS)
