"""The rendered variants as they are held: what a change of a template changes is seen in a diff.

Left out is what changes with every version, the chart's and the platform's number, and what the dashboards
hold: they are long, and a test compares them with deploy/grafana/boards.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from deploy.charts.render import BACKBONE, EXAMPLES, ROOT, UMBRELLA, documents, template, variants

FOLDER = ROOT / "tests" / "charts" / "golden"
KAFKA = "kafka-two-sites"
KAFKA_SETS = ('sites=["hospital-a","hospital-b"]', "users.backup=true", "users.restore=true")
_VERSIONS = ("helm.sh/chart", "app.kubernetes.io/version")
_DASHBOARD = re.compile(r"pharmaloop-[\w-]+\.json")


def rendered(name: str) -> str:
    """A variant's resources, or the backbone's."""
    if name == KAFKA:
        return template(BACKBONE, sets=KAFKA_SETS)
    return template(UMBRELLA, [EXAMPLES / f"{name}.yaml"])


def names() -> list[str]:
    return [*variants(), KAFKA]


def path(name: str) -> Path:
    return FOLDER / f"{name}.yaml"


def normal(text: str) -> str:
    """Resources in order of kind and name, short lines, without versions."""
    found = [_shortened(document) for document in documents(text)]
    found.sort(key=lambda d: (d["kind"], d["metadata"]["name"]))
    dumper: Any = yaml.CSafeDumper
    return str(
        yaml.dump_all(
            found, Dumper=dumper, sort_keys=False, default_flow_style=None, width=140, allow_unicode=True
        )
    )


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: part for key, part in value.items() if key not in _VERSIONS}
        return {
            key: "a dashboard" if _DASHBOARD.fullmatch(key) else _shortened(part)
            for key, part in kept.items()
        }
    if isinstance(value, list):
        return [_shortened(part) for part in value]
    return value


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names():
        path(name).write_text(normal(rendered(name)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
