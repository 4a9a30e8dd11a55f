"""Standard errors that hold where rows are not independent: the sandwich, by row or by lot.

    robust    every row is its own cluster (HC0 of White)
    cluster   the rows of one lot are one cluster, at however many sites it was dispensed

The meat is the sum over clusters of s s', s the sum of the cluster's scores. A
lot at several sites has s from all of them: so `shared` lists the lots that may
be at several sites, and the vector has a row of scores for each; their sum over
sites is the lot's own s. The lots of one site alone need no list: the site adds
s s' of each to one matrix. The list must hold every lot that spans sites, or
the two halves of a lot count as two lots.

Correction of a cluster sandwich: G / (G - 1) times (n - 1) / (n - p), as in Stata
and statsmodels (Cameron and Miller, J Hum Resour 2015;50:317).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.exchange.domain.errors import Malformed, Unfit
from services.exchange.domain.stats import columns
from services.exchange.domain.stats.newton import square, triangle
from services.exchange.domain.stats.protocol import Columns, Part, Vector, part
from services.exchange.domain.stats.reading import Fields, Protection


@dataclass(frozen=True)
class Clusters:
    """`column` is empty where each row is its own cluster; `local`: lots beyond the list may occur."""

    column: str
    shared: tuple[str, ...]
    local: bool
    rows_at_most: int


def read(fields: Fields, errors: str) -> Clusters | None:
    """Reads the field `clusters` where `errors` asks for it."""
    if errors == "model":
        return None
    if errors == "robust":
        return Clusters("", (), True, 1)
    inner = fields.needed("clusters")
    found = Clusters(
        inner.text("column"),
        inner.texts("shared", 0, []),
        inner.choice("others", ("local", "refuse"), "local") == "local",
        inner.whole("rows_at_most", 1, 10_000_000, 10_000),
    )
    fields.out["clusters"] = inner.finish()
    if not found.shared and not found.local:
        raise Malformed(
            "NO_CLUSTERS", "list the lots, or allow those of one site alone", "spec.clusters.shared"
        )
    return found


def presence_parts(found: Clusters | None) -> list[Part]:
    return [] if found is None else [part("cluster_present", len(found.shared), 1.0)]


def presence(found: Clusters | None, table: Columns) -> dict[str, Vector]:
    """1 for each shared cluster that has rows here. Raises Unfit for a cluster that is not allowed."""
    if found is None:
        return {}
    seen = np.zeros(len(found.shared))
    if found.column:
        where, _ = _placed(found, table)
        seen[where[where >= 0]] = 1.0
    return {"cluster_present": seen}


def present(found: Clusters | None, total: Mapping[str, Vector], rules: Protection) -> list[bool]:
    """Which shared clusters have rows. Raises Unfit for one at too few sites: the sum would be theirs."""
    if found is None:
        return []
    sites = [round(float(count)) for count in total["cluster_present"]]
    few = [name for name, count in zip(found.shared, sites, strict=True) if 0 < count < rules.sites_at_least]
    if few:
        said = (
            f"{', '.join(few)} is at fewer than {rules.sites_at_least} sites; "
            "take it out of shared: a lot of one site stays with the site"
        )
        raise Unfit("TOO_FEW_SITES_FOR_CLUSTER", said, "clusters.shared")
    return [count > 0 for count in sites]


def parts(found: Clusters, bound: Vector, rows_at_most: int) -> list[Part]:
    """`bound`: the largest score of one row in each coefficient."""
    width = len(bound)
    largest = min(found.rows_at_most, rows_at_most)
    return [
        part("shared", (len(found.shared), width), np.tile(bound * largest, (len(found.shared), 1))),
        part("local", width * (width + 1) // 2, triangle(np.outer(bound, bound)) * largest * rows_at_most),
        part("local_clusters", 1, rows_at_most),
    ]


def sums(found: Clusters, scores: Vector, table: Columns) -> dict[str, Vector]:
    """A site's score sums of the shared clusters, the matrix of its own ones, and how many those are."""
    shared = np.zeros((len(found.shared), scores.shape[1]))
    if not found.column:
        return {
            "shared": shared,
            "local": triangle(scores.T @ scores),
            "local_clusters": np.array([float(len(scores))]),
        }
    where, names = _placed(found, table)
    for at in range(len(found.shared)):
        shared[at] = scores[where == at].sum(axis=0)
    own = scores[where < 0]
    _, which = np.unique(names[where < 0], return_inverse=True)
    count = int(which.max()) + 1 if len(which) else 0
    by_lot = np.zeros((count, scores.shape[1]))
    np.add.at(by_lot, which, own)
    return {
        "shared": shared,
        "local": triangle(by_lot.T @ by_lot),
        "local_clusters": np.array([float(count)]),
    }


def sandwich(
    found: Clusters, bread: Vector, total: Mapping[str, Any], seen: Sequence[bool], n: float
) -> tuple[Vector, int]:
    """The covariance, and the number of clusters. Raises Unfit for fewer than two clusters."""
    width = len(bread)
    shared = np.array(total["shared"], dtype=float).reshape(-1, width)
    meat = shared.T @ shared + square(np.array(total["local"], dtype=float), width)
    count = sum(seen) + round(float(total["local_clusters"][0]))
    if count < 2:
        raise Unfit("TOO_FEW_CLUSTERS", "errors by cluster need at least two clusters", "clusters")
    covariance = bread @ meat @ bread
    if found.column:
        covariance = covariance * count / (count - 1) * (n - 1) / (n - width)
    return np.asarray(covariance), count


def _placed(found: Clusters, table: Columns) -> tuple[columns.Index, Any]:
    """The place of each row's cluster in the list (-1: of this site alone), and the names."""
    names = columns.names(table, found.column)
    where = columns.positions(names, found.shared) if found.shared else np.full(len(names), -1, dtype=np.intp)
    if not found.local and np.any(where < 0):
        said = f"{found.column} holds a cluster that is not in the agreed list; add it, or allow local ones"
        raise Unfit("UNKNOWN_CLUSTER", said, found.column)
    _, sizes = np.unique(names, return_counts=True)
    if sizes.max(initial=0) > found.rows_at_most:
        said = f"a cluster has more than the {found.rows_at_most} rows agreed; agree on more"
        raise Unfit("CLUSTER_TOO_LARGE", said, "clusters.rows_at_most")
    return where, names
