"""Standard errors that hold where rows are not independent: the sandwich, by row or by lot.

    robust    every row is its own cluster (HC0 of White)
    cluster   the rows of one lot are one cluster, at however many sites it was dispensed

The meat is the sum over clusters of s s', s the sum of the cluster's scores. A
lot at several sites has s from all of them: so `shared` lists the lots that may
be at several sites, and the vector has a row of scores for each; their sum over
sites is the lot's own s. The lots of one site alone need no list: the site adds
s s' of each to one matrix. The list must hold every lot that spans sites, or
the two halves of a lot count as two lots. Who does not know where lots went
lists them all, with `others: refuse` and `alone: local`: one that is found at
one site only stays with the site.

Correction of a cluster sandwich: G / (G - 1) times (n - 1) / (n - p), as in Stata
and statsmodels (Cameron and Miller, J Hum Resour 2015;50:317), with Student's t of
G - 1 degrees of freedom.

That is not enough for a column which is the same in all rows of a lot, as whether
its process ran in a band: the lots inside and outside are two samples. Where the
specification names it (`exposure`), the lots of both are counted, a and b, and the
estimate of that column has

    variance     times (1 / (a - 1) + 1 / (b - 1)) / (1 / a + 1 / b), in place of G / (G - 1)
    degrees      (1 / a + 1 / b)^2 / (1 / (a^2 (a - 1)) + 1 / (b^2 (b - 1)))

what CR2 and its degrees of freedom come to for lots of one size (Bell and
McCaffrey, Surv Methodol 2002;28:169; Imbens and Kolesar, Rev Econ Stat
2016;98:701): the t-test of the lots' means where a = b.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats import columns
from services.exchange.domain.stats.newton import square, triangle
from services.exchange.domain.stats.protocol import Columns, Part, Vector, part
from services.exchange.domain.stats.reading import Fields, Protection
from services.refusals import Malformed


@dataclass(frozen=True)
class Clusters:
    """`column` is empty where each row is its own cluster; `local`: lots beyond the list may occur.

    `exposure`: a column of 0 and 1 that is the same in all rows of a cluster; empty where none is named.
    `alone`: a listed cluster that is at one site only stays with the site, instead of being refused.
    """

    column: str
    shared: tuple[str, ...]
    local: bool
    rows_at_most: int
    exposure: str = ""
    alone: bool = False

    def summed(self, flags: Sequence[float]) -> Clusters:
        """With the listed clusters that are flagged alone; all others stay with their sites.

        Raises Malformed where there is not a flag for each.
        """
        if len(flags) != len(self.shared):
            said = "the scores are asked with a mark for each shared cluster"
            raise Malformed("WRONG_PARAMETERS", said, "parameters")
        kept = tuple(name for name, flag in zip(self.shared, flags, strict=True) if flag == 1.0)
        return replace(self, shared=kept, local=True)


@dataclass(frozen=True)
class Count:
    """How many clusters there are; `exposed` of them, where the specification names an exposure."""

    clusters: int
    exposed: int | None = None

    @property
    def others(self) -> int | None:
        return None if self.exposed is None else self.clusters - self.exposed

    def tables(self) -> dict[str, int]:
        """As a result tells it."""
        if self.exposed is None:
            return {"clusters": self.clusters}
        return {"clusters": self.clusters, "clusters_exposed": self.exposed}

    def degrees(self) -> float | None:
        """Degrees of freedom of the exposure's estimate; None where not counted, or of too few."""
        if self.exposed is None or self.others is None or min(self.exposed, self.others) < 2:
            return None
        a, b = float(self.exposed), float(self.others)
        return (1 / a + 1 / b) ** 2 / (1 / (a**2 * (a - 1)) + 1 / (b**2 * (b - 1)))

    def widening(self) -> float:
        """What the variance of the exposure's estimate is multiplied by, beyond G / (G - 1)."""
        if self.exposed is None or self.others is None or min(self.exposed, self.others) < 2:
            return 1.0
        a, b, g = float(self.exposed), float(self.others), float(self.clusters)
        return (1 / (a - 1) + 1 / (b - 1)) / (1 / a + 1 / b) * (g - 1) / g


def read(fields: Fields, errors: str, terms: Sequence[str] = ()) -> Clusters | None:
    """Reads the field `clusters` where `errors` asks for it. `terms`: the names of the design's."""
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
        inner.text("exposure") if "exposure" in inner.said else "",
        inner.choice("alone", ("refuse", "local"), "refuse") == "local",
    )
    if found.exposure and found.exposure not in terms:
        said = f"the exposure is one of the terms: {', '.join(terms)}"
        raise Malformed("NOT_A_TERM", said, "spec.clusters.exposure")
    fields.out["clusters"] = inner.finish()
    if not found.shared and not found.local:
        raise Malformed(
            "NO_CLUSTERS", "list the lots, or allow those of one site alone", "spec.clusters.shared"
        )
    return found


def presence_parts(found: Clusters | None) -> list[Part]:
    if found is None:
        return []
    parts = [part("cluster_present", len(found.shared), 1.0)]
    return [*parts, part("cluster_exposed", len(found.shared), 1.0)] if found.exposure else parts


def presence(found: Clusters | None, table: Columns) -> dict[str, Vector]:
    """1 for each shared cluster that has rows here, and 1 for each of those that is exposed.

    Raises Unfit for a cluster that is not allowed, or whose rows are not of one exposure.
    """
    if found is None:
        return {}
    seen = np.zeros(len(found.shared))
    if not found.column:
        return {"cluster_present": seen}
    where, names = _placed(found, table)
    seen[where[where >= 0]] = 1.0
    if not found.exposure:
        return {"cluster_present": seen}
    exposed = columns.zero_one(table, found.exposure)
    _, first, which = np.unique(names, return_index=True, return_inverse=True)
    if np.any(exposed != exposed[first][which]):
        raise _in_both(found)
    marked = np.zeros(len(found.shared))
    marked[where[(where >= 0) & (exposed == 1)]] = 1.0
    return {"cluster_present": seen, "cluster_exposed": marked}


def present(found: Clusters | None, total: Mapping[str, Vector], rules: Protection) -> list[bool]:
    """Which shared clusters are summed: those that have rows, and are not alone at a site.

    Raises Unfit for one at too few sites, the sum would be theirs, unless it may stay with its one site.
    """
    if found is None:
        return []
    sites = [round(float(count)) for count in total["cluster_present"]]
    least = rules.sites_at_least
    stays = [found.alone and count == 1 < least for count in sites]
    few = [
        name
        for name, count, local in zip(found.shared, sites, stays, strict=True)
        if 0 < count < least and not local
    ]
    if few:
        said = (
            f"{', '.join(few)} is at fewer than {least} sites; take it out of shared, "
            "or agree on alone: local: a lot of one site stays with the site"
        )
        raise Unfit("TOO_FEW_SITES_FOR_CLUSTER", said, "clusters.shared")
    if found.exposure:
        marked = [round(float(count)) for count in total["cluster_exposed"]]
        if any(one not in (0, count) for one, count in zip(marked, sites, strict=True)):
            raise _in_both(found)
    return [count > 0 and not local for count, local in zip(sites, stays, strict=True)]


def exposed(found: Clusters | None, total: Mapping[str, Vector], summed: Sequence[bool]) -> int:
    """How many of the summed clusters are exposed."""
    if found is None or not found.exposure:
        return 0
    return int(np.count_nonzero(np.rint(total["cluster_exposed"])[np.array(summed, dtype=bool)]))


def _in_both(found: Clusters) -> Unfit:
    said = (
        f"{found.exposure} is not the same in all rows of one {found.column}; "
        "it is no exposure of clusters: leave clusters.exposure out"
    )
    return Unfit("EXPOSURE_WITHIN_CLUSTER", said, "clusters.exposure")


def parts(found: Clusters, bound: Vector, rows_at_most: int) -> list[Part]:
    """`bound`: the largest score of one row in each coefficient."""
    width = len(bound)
    largest = min(found.rows_at_most, rows_at_most)
    return [
        part("shared", (len(found.shared), width), np.tile(bound * largest, (len(found.shared), 1))),
        part("local", width * (width + 1) // 2, triangle(np.outer(bound, bound)) * largest * rows_at_most),
        part("local_clusters", 1, rows_at_most),
        *([part("local_exposed", 1, rows_at_most)] if found.exposure else []),
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
    told: dict[str, Vector] = {}
    if found.exposure:
        marked = names[(where < 0) & (columns.zero_one(table, found.exposure) == 1)]
        told["local_exposed"] = np.array([float(len(np.unique(marked)))])
    return told | {
        "shared": shared,
        "local": triangle(by_lot.T @ by_lot),
        "local_clusters": np.array([float(count)]),
    }


def sandwich(
    found: Clusters,
    bread: Vector,
    total: Mapping[str, Any],
    seen: Sequence[bool],
    shared_exposed: int,
    n: float,
    exposure: int | None = None,
) -> tuple[Vector, Count]:
    """The covariance, and how many clusters there are. Raises Unfit for fewer than two clusters.

    `exposure` is the place of the exposure's coefficient; None where it is not in the fit.
    """
    width = len(bread)
    shared = np.array(total["shared"], dtype=float).reshape(-1, width)
    meat = shared.T @ shared + square(np.array(total["local"], dtype=float), width)
    clusters = sum(seen) + round(float(total["local_clusters"][0]))
    if clusters < 2:
        raise Unfit("TOO_FEW_CLUSTERS", "errors by cluster need at least two clusters", "clusters")
    covariance = bread @ meat @ bread
    count = Count(clusters)
    if found.column:
        covariance = covariance * clusters / (clusters - 1) * (n - 1) / (n - width)
    if found.exposure:
        count = Count(clusters, shared_exposed + round(float(total["local_exposed"][0])))
        if exposure is not None:
            # Row and column alike, so that it stays a covariance.
            stretch = np.ones(width)
            stretch[exposure] = np.sqrt(count.widening())
            covariance = covariance * np.outer(stretch, stretch)
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
