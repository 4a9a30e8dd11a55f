"""The bounds of the alert rules: what is coloured on a dashboard is what wakes somebody, and nothing else."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import yaml

from deploy.grafana.model import Levels, Panel
from deploy.local.plan import ROOT
from deploy.watch import slo

RULES = ROOT / "deploy" / "prometheus"
_BOUND = re.compile(r"(>|==)\s*(\d+(?:\.\d+)?)\s*$")


@cache
def alerts() -> dict[str, list[dict[str, Any]]]:
    """The alert rules by name, as their files have them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((RULES / "alerting").glob("*.rules.yaml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                found.setdefault(rule["alert"], []).append(rule)
    return found


@cache
def recorded() -> dict[str, str]:
    """What the recording rules make: expression by name."""
    return {
        rule["record"]: str(rule["expr"])
        for file in sorted((RULES / "recording").glob("*.rules.yaml"))
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    }


def levels(panel: Panel) -> Levels:
    """The panel's own, else the bound of its first alert that has a simple one; else none."""
    if panel.levels is not None:
        return panel.levels
    for name in panel.alerts:
        rules = alerts()[name]
        severity = "page" if any(rule["labels"]["severity"] == "page" for rule in rules) else "ticket"
        found = _BOUND.search(str(rules[0]["expr"]))
        if not found or panel.unit == "suffix:× budget":
            continue
        # Grafana colours from a value on: more than none of what is counted is one.
        above, bound = found[1] == ">", float(found[2])
        value = bound if above and bound else 1.0
        return Levels(**{severity: value}, below=not above)
    return Levels()


def burn(name: str, window: str) -> str:
    """How many times as fast as it may a promise's budget is used up over a window."""
    promise = next(one for one in slo.read() if one.name == name)
    return f"{promise.record}{window} / {promise.budget:g}"


#: The burn rates of the first of a promise's page and ticket windows.
BURN = Levels(ticket=slo.BURNS["ticket"][0][2], page=slo.BURNS["page"][0][2])
