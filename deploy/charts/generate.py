"""Write what the charts take from the project: catalogue, backbone, rules, dashboards, schema, values.

    python -m deploy.charts.generate [--check]

`--check` writes nothing and fails where a file differs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from deploy.charts import backbone, backbone_schema, catalogue, docs
from deploy.charts.schema import schema

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
RULES = ROOT / "deploy" / "prometheus"
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
#: Folders of the umbrella chart in which every file is made here.
_MADE = ("rules", "dashboards")
_NOTE = "# Made by `make charts-docs` from proto/topics.yaml and the services; do not edit.\n"


def _yaml(document: Any) -> str:
    return _NOTE + yaml.safe_dump(document, sort_keys=True, allow_unicode=True, width=100)


def files() -> dict[Path, str]:
    """Every generated file, as it must be."""
    umbrella, kafka = CHARTS / "pharmaloop", CHARTS / "pharmaloop-kafka"
    return {
        umbrella / "files" / "catalogue.yaml": _yaml(catalogue.document()),
        kafka / "files" / "backbone.yaml": _yaml(backbone.document()),
        **{umbrella / "files" / "rules" / name: text for name, text in rules().items()},
        **{umbrella / "files" / "dashboards" / name: text for name, text in dashboards().items()},
        **_values(umbrella, schema()),
        **_values(kafka, backbone_schema.schema()),
    }


def rules() -> dict[str, str]:
    """The rules of Prometheus by their name in the chart, as they are in deploy/prometheus."""
    found = sorted(RULES.glob("*/*.rules.yaml"))
    return {
        f"{path.parent.name}.{path.name.removesuffix('.rules.yaml')}.yaml": path.read_text() for path in found
    }


def dashboards() -> dict[str, str]:
    """Grafana's dashboards by their name in the chart: deploy/grafana/dashboards without the spaces."""
    return {
        path.name: json.dumps(json.loads(path.read_text()), separators=(",", ":"), ensure_ascii=False) + "\n"
        for path in sorted(DASHBOARDS.glob("*.json"))
    }


def _made() -> set[Path]:
    """Files that stand in folders in which every file is made here."""
    return {path for name in _MADE for path in (CHARTS / "pharmaloop" / "files" / name).glob("*")}


def _values(chart: Path, schema: dict[str, Any]) -> dict[Path, str]:
    """A chart's schema, and its README with the table of values."""
    readme, defaults = chart / "README.md", yaml.safe_load((chart / "values.yaml").read_text())
    return {
        chart / "values.schema.json": json.dumps(schema, indent=1) + "\n",
        readme: docs.with_table(readme.read_text(), schema, defaults),
    }


def differing() -> list[Path]:
    """Generated files that are not as they must be."""
    wanted = files()
    gone = _made() - set(wanted)
    return [*(p for p, text in wanted.items() if not p.exists() or p.read_text() != text), *sorted(gone)]


def main() -> int:
    if "--check" in sys.argv[1:]:
        for path in (found := differing()):
            print(f"{path.relative_to(ROOT)} is not as the project is now: run 'make charts-docs'")
        return 1 if found else 0
    for path in _made():
        path.unlink()
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
