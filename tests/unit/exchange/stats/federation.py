"""Sites and a coordinator in memory: splits of public data, and a job played to its end."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.exchange.domain.stats.protocol import Ask, Columns, Layout, Model, Result, State, Vector

DATA = Path(__file__).parent / "data"


def read(name: str) -> dict[str, Any]:
    """A table of the data folder: numbers where all values are, else text."""
    with (DATA / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    held = {}
    for column in rows[0]:
        values = [row[column] for row in rows]
        try:
            held[column] = np.array([float(value) for value in values])
        except ValueError:
            held[column] = np.array(values)
    return held


def rows(table: Columns, keep: Any) -> dict[str, Any]:
    return {name: values[keep] for name, values in table.items()}


def split(table: Columns, sites: int, seed: int = 0) -> list[dict[str, Any]]:
    """Uneven sites: each has about twice the rows of the next; with more than three, one has none."""
    n = len(next(iter(table.values())))
    weight = 0.7 ** np.arange(sites)
    if sites > 3:
        weight[1] = 0.0
    where = np.random.default_rng(seed).choice(sites, n, p=weight / weight.sum())
    return [rows(table, where == site) for site in range(sites)]


def modulo(table: Columns, sites: int) -> list[dict[str, Any]]:
    """Row i at site i mod `sites`."""
    n = len(next(iter(table.values())))
    return [rows(table, np.arange(n) % sites == site) for site in range(sites)]


def plain_sum(vectors: Sequence[Vector], layout: Layout) -> Vector:
    for vector in vectors:
        layout.check(vector)
    return np.asarray(np.sum(vectors, axis=0))


def fixed_point(vectors: Sequence[Vector], layout: Layout) -> Vector:
    """What a secure sum does: each rounded to 64-bit integers, added modulo 2^64, read as signed."""
    scales = layout.scales(len(vectors))
    total = np.zeros(layout.size, dtype=np.uint64)
    for vector in vectors:
        layout.check(vector)
        total = total + np.rint(vector * scales).astype(np.int64).view(np.uint64)
    return np.asarray(total.view(np.int64) / scales)


def play(model: Model, spec: Mapping[str, Any], tables: Sequence[Columns], add: Any = plain_sum) -> Result:
    """A whole job. What travels or is stored goes through JSON text, as between processes."""
    state = model.start(spec)
    while (ask := model.ask(state)) is not None:
        heard = Ask.from_json(json.loads(json.dumps(ask.to_json())))
        assert heard.digest() == ask.digest()
        vectors = [model.contribute(heard, table) for table in tables]
        state = model.take(
            State.from_json(json.loads(json.dumps(state.to_json()))), add(vectors, model.layout(ask))
        )
    json.dumps(model.result(state).to_json(), allow_nan=False)
    return model.result(state)


def values(result: Result) -> Vector:
    return np.array([one.value for one in result.estimates], dtype=float)


def errors(result: Result) -> Vector:
    return np.array([one.standard_error for one in result.estimates], dtype=float)
