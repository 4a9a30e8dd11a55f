"""Write what the charts take from the project: catalogue, backbone, schema, table of values.

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
_NOTE = "# Made by `make charts-docs` from proto/topics.yaml and the services; do not edit.\n"


def _yaml(document: Any) -> str:
    return _NOTE + yaml.safe_dump(document, sort_keys=True, allow_unicode=True, width=100)


def files() -> dict[Path, str]:
    """Every generated file, as it must be."""
    umbrella, kafka = CHARTS / "pharmaloop", CHARTS / "pharmaloop-kafka"
    return {
        umbrella / "files" / "catalogue.yaml": _yaml(catalogue.document()),
        kafka / "files" / "backbone.yaml": _yaml(backbone.document()),
        **_values(umbrella, schema()),
        **_values(kafka, backbone_schema.schema()),
    }


def _values(chart: Path, schema: dict[str, Any]) -> dict[Path, str]:
    """A chart's schema, and its README with the table of values."""
    readme, defaults = chart / "README.md", yaml.safe_load((chart / "values.yaml").read_text())
    return {
        chart / "values.schema.json": json.dumps(schema, indent=1) + "\n",
        readme: docs.with_table(readme.read_text(), schema, defaults),
    }


def differing() -> list[Path]:
    """Generated files that are not as they must be."""
    return [path for path, text in files().items() if not path.exists() or path.read_text() != text]


def main() -> int:
    if "--check" in sys.argv[1:]:
        for path in (found := differing()):
            print(f"{path.relative_to(ROOT)} is not as the project is now: run 'make charts-docs'")
        return 1 if found else 0
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
