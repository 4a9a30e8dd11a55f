"""Runs benchmarks one after the other and writes the report.

    python -m tests.bench [FILES]

Each benchmark is a module `bench_*.py` with `run(machine) -> rows`. It fails
when its result is wrong, and only then. Options of a single benchmark come
from the environment (BENCH_COUNT=20000), for short runs while one works on
it; a run with options is shown and not written down.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.framework import render, rows
from tests.bench.framework.machine import Machine, environment

_OPTION = "BENCH_"
FOLDER = Path(__file__).resolve().parents[1]


def option(name: str, usual: int) -> int:
    """A number that the environment may change for a trial run."""
    return int(os.environ.get(f"{_OPTION}{name}", usual))


def is_trial() -> bool:
    return any(name.startswith(_OPTION) for name in os.environ)


def files_of(arguments: Sequence[str]) -> list[Path]:
    """The benchmarks that were asked for; all of them when none was, or a folder."""
    named = [Path(argument) for argument in arguments] or [FOLDER]
    found: list[Path] = []
    for path in named:
        found += sorted(path.glob("bench_*.py")) if path.is_dir() else [path]
    for path in found:
        if not path.is_file() or not path.name.startswith("bench_"):
            raise SystemExit(f"bench: {path} is no benchmark; they are {FOLDER.name}/bench_*.py")
    return found


def name_of(path: Path) -> str:
    return path.stem.removeprefix("bench_")


def run_one(path: Path) -> tuple[dict[str, Any], list[rows.Row]]:
    """The environment at the start of a benchmark, and its rows."""
    module = importlib.import_module(f"tests.bench.{path.stem}")
    around = environment()
    print(f"\n== {name_of(path)} (load {around['load_1_min']:g})", flush=True)
    began = time.monotonic()
    with Machine() as machine:
        found: list[rows.Row] = module.run(machine)
    for one in found:
        print(shown(one), flush=True)
    print(f"   {time.monotonic() - began:.0f} s", flush=True)
    return around, found


def shown(one: rows.Row) -> str:
    """A row as a line of text."""
    parts = [f"   {one.name}: {render.number(one.value)} {one.unit}"]
    if one.yardstick is not None and one.ratio is not None:
        parts.append(f"{one.yardstick_name} {render.number(one.yardstick)}, ratio {one.ratio:.2f}")
    if one.target:
        parts.append(f"target {one.target}: {'met' if one.met else 'NOT met'}")
    return "; ".join(parts) + (f" [{one.note}]" if one.note else "")


def main(arguments: Sequence[str]) -> int:
    failed = []
    for path in files_of(arguments):
        try:
            around, found = run_one(path)
        except Exception:  # noqa: BLE001 -- one wrong result must not hide the other benchmarks
            traceback.print_exc()
            failed.append(name_of(path))
            continue
        if not is_trial():
            document = rows.merged(rows.load(), name_of(path), around, found)
            rows.save(document)
            render.write(document)
    if failed:
        print(f"bench: wrong or without a result: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0
