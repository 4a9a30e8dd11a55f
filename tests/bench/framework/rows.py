"""Rows of the benchmark report: what was measured, beside its yardstick and its target.

A row never fails a run: whether a target is met is printed and written down,
and a person decides. Rows of other benchmarks are kept as they were, each
with the date and the load of its own run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
JSON_FILE = ROOT / "docs" / "benchmarks.json"


@dataclass(frozen=True)
class Row:
    """One measured thing. `yardstick` is the raw figure of the same run, named by `yardstick_name`."""

    name: str
    value: float
    unit: str
    yardstick_name: str = ""
    yardstick: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Target:
    """What a row should reach; every bound that is given counts."""

    at_least: float | None = None
    at_most: float | None = None
    ratio_at_least: float | None = None

    def met(self, value: float, ratio: float | None) -> bool:
        enough = self.at_least is None or value >= self.at_least
        little = self.at_most is None or value <= self.at_most
        share = self.ratio_at_least is None or (ratio is not None and ratio >= self.ratio_at_least)
        return enough and little and share

    def text(self, unit: str) -> str:
        parts = []
        if self.ratio_at_least is not None:
            parts.append(f"ratio >= {self.ratio_at_least:g}")
        if self.at_least is not None:
            parts.append(f">= {self.at_least:,.6g} {unit}")
        if self.at_most is not None:
            parts.append(f"<= {self.at_most:,.6g} {unit}")
        return " and ".join(parts)


def row(
    name: str,
    value: float,
    unit: str,
    *,
    target: Target | None = None,
    yardstick: tuple[str, float] | None = None,
    note: str = "",
) -> Row:
    """A row with its ratio to the yardstick, judged by the target."""
    ratio = value / yardstick[1] if yardstick and yardstick[1] else None
    return Row(
        name=name,
        value=_rounded(value),
        unit=unit,
        yardstick_name=yardstick[0] if yardstick else "",
        yardstick=_rounded(yardstick[1]) if yardstick else None,
        ratio=None if ratio is None else round(ratio, 3),
        target=target.text(unit) if target else "",
        met=target.met(value, ratio) if target else None,
        note=note,
    )


def _rounded(value: float) -> float:
    """Four significant digits: what is beyond them is noise."""
    return float(f"{value:.4g}")


def load(path: Path = JSON_FILE) -> dict[str, Any]:
    if not path.exists():
        return {"environment": {}, "rows": []}
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def merged(
    document: dict[str, Any], bench: str, environment: dict[str, Any], rows: Iterable[Row]
) -> dict[str, Any]:
    """The document with the rows of one benchmark replaced; all others keep their own date and processor."""
    stamp = {
        "bench": bench,
        "date": environment["date"],
        "load": environment["load_1_min"],
        "cpu": environment["cpu"],
    }
    fresh = [{**asdict(one), **stamp} for one in rows]
    # Rows of before they had one are of the machine that the document named then.
    was = document["environment"].get("cpu", "")
    kept = [{"cpu": was, **old} for old in document["rows"] if old["bench"] != bench]
    return {
        "environment": environment,
        "rows": sorted([*kept, *fresh], key=lambda one: str(one["bench"])),
    }


def save(document: dict[str, Any], path: Path = JSON_FILE) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
