"""The rules as they are shipped, and the programs that judge them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.watch import tools

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTMANAGER = ROOT / "deploy" / "alertmanager" / "alertmanager.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULE_TESTS = Path(__file__).with_name("rules")


@dataclass(frozen=True)
class Rule:
    """One rule of a file: an alert, or what is recorded."""

    file: Path
    raw: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.raw.get("alert") or self.raw["record"])

    @property
    def expr(self) -> str:
        return str(self.raw["expr"])

    @property
    def annotations(self) -> dict[str, str]:
        return dict(self.raw["annotations"])

    @property
    def severity(self) -> str:
        return str(self.raw["labels"]["severity"])

    def __str__(self) -> str:
        return f"{self.name}-{self.severity}" if "alert" in self.raw else self.name


def rules(kind: str) -> list[Rule]:
    """All rules of `alerting` or `recording`."""
    return [
        Rule(file, raw)
        for file in sorted((PROMETHEUS / kind).glob("*.rules.yaml"))
        for group in yaml.safe_load(file.read_text())["groups"]
        for raw in group["rules"]
    ]


ALERTS = rules("alerting")
RECORDED = rules("recording")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs a program of Prometheus or Alertmanager, fetched where this machine has none."""

    def call(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [tools.need(program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)

    return call
