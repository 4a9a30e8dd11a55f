"""Renders docs/benchmarks.md from docs/benchmarks.json, and from nothing else."""

from __future__ import annotations

from typing import Any

from tests.bench.framework import rows

MD_FILE = rows.ROOT / "docs" / "benchmarks.md"
_HEAD = """# Benchmarks

Written by `make bench` from [benchmarks.json](benchmarks.json); do not edit. Each row stands beside its
yardstick: the raw clients doing the same work in the same run. Performance is never asserted: a benchmark
fails only when the answer is wrong. Where the time goes, and why a target is missed, is in
[performance.md](performance.md).

"""


def markdown(document: dict[str, Any]) -> str:
    parts = [_HEAD, _environment(document["environment"])]
    by_bench: dict[str, list[dict[str, Any]]] = {}
    for one in document["rows"]:
        by_bench.setdefault(one["bench"], []).append(one)
    parts += [_table(bench, found) for bench, found in by_bench.items()]
    return "\n".join(parts)


def _environment(environment: dict[str, Any]) -> str:
    return "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in environment.items()) + "\n"


def _table(bench: str, found: list[dict[str, Any]]) -> str:
    dates = sorted({f"{one['date']} (load {one['load']:g}, {one['cpu']})" for one in found})
    lines = [
        f"## {bench}\n",
        f"Run `make bench T=tests/bench/bench_{bench}.py`; measured {', '.join(dates)}.\n",
        "| what | value | yardstick | ratio | target | met |",
        "|---|---|---|---|---|---|",
        *(_line(one) for one in found),
        "",
    ]
    notes = [f"- {one['name']}: {one['note']}" for one in found if one["note"]]
    return "\n".join([*lines, *notes, ""] if notes else lines)


def _line(one: dict[str, Any]) -> str:
    yardstick = f"{number(one['yardstick'])} ({one['yardstick_name']})" if one["yardstick_name"] else ""
    ratio = "" if one["ratio"] is None else f"{one['ratio']:.2f}"
    met = {True: "yes", False: "**no**", None: ""}[one["met"]]
    cells = [one["name"], f"{number(one['value'])} {one['unit']}", yardstick, ratio, one["target"], met]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(value: float) -> str:
    if 99 <= abs(value) < 100:  # what is nearly all is not all
        return f"{value:.4g}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"


def write(document: dict[str, Any]) -> None:
    MD_FILE.write_text(markdown(document))
