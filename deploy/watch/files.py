"""The files that Prometheus and Alertmanager start with, placed for one installation.

What is shipped under deploy/prometheus and deploy/alertmanager names example
addresses, and links of alerts are paths: the portal's and the runbooks'. Here
they get the addresses of an installation.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.local.plan import AGENTS, CLINICAL, ROOT, WORLD

PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTMANAGER = ROOT / "deploy" / "alertmanager"
RECEIVERS = "http://alerts.pharmaloop.example"
_MANAGER = "alertmanager.pharmaloop.example:9093"


@dataclass(frozen=True)
class Places:
    """Where things are: host:port of Alertmanager, addresses of the receiver and the portal (may be empty),
    and what stands before docs/runbooks."""

    alertmanager: str
    receiver: str
    portal: str
    docs: str


def targets(metrics: Mapping[str, str]) -> list[dict[str, Any]]:
    """The processes of a local stack as Prometheus discovers them, from their metrics addresses.

    Not the simulated world: it ends when its story is told, and nobody is hurt.
    """
    sites = {**CLINICAL, **AGENTS}
    found = []
    for process, address in sorted(metrics.items()):
        if process == WORLD:
            continue
        labels = {"service": process.partition(".")[0], "process": process}
        if process in sites:
            labels["site"] = sites[process]
        found.append({"targets": [address], "labels": labels})
    return found


def placed(rules: str, places: Places) -> str:
    """A rule file whose links lead somewhere."""
    raw = yaml.safe_load(rules)
    for group in raw["groups"]:
        for rule in group["rules"]:
            links = rule.get("annotations")
            if links:
                links["portal"] = places.portal + links["portal"]
                links["runbook_url"] = (
                    f"{places.docs}/{links['runbook_url']}" if places.docs else links["runbook_url"]
                )
    return str(yaml.safe_dump(raw, sort_keys=False, width=110, allow_unicode=True))


def write(folder: Path, places: Places, found: list[dict[str, Any]]) -> None:
    """Everything, into one folder: prometheus.yaml with its rules and targets, alertmanager.yaml."""
    for kind in ("recording", "alerting"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for file in (folder / kind).glob("*.rules.yaml"):
            file.unlink()
        for file in (PROMETHEUS / kind).glob("*.rules.yaml"):
            (folder / kind / file.name).write_text(placed(file.read_text(), places))
    text = (PROMETHEUS / "prometheus.yaml").read_text()
    (folder / "prometheus.yaml").write_text(text.replace(_MANAGER, places.alertmanager))
    text = (ALERTMANAGER / "alertmanager.yaml").read_text()
    (folder / "alertmanager.yaml").write_text(text.replace(RECEIVERS, places.receiver))
    (folder / "targets.json").write_text(json.dumps(found, indent=2) + "\n")
