"""Between the statistics and the secure sum: how numbers become words, and what the masks belong to.

The coordinator and every site make these alike from what was agreed, so that
nobody has to be believed: a site that was asked something else masks for
something else, and the sum is noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from services.exchange.domain.aggregation.context import Context, cohort_hash, packed, parameters_hash
from services.exchange.domain.aggregation.layout import Layout as Words
from services.exchange.domain.aggregation.layout import fitted
from services.exchange.domain.stats.protocol import Ask, Layout, Vector

#: Sums of a regression need more digits than 64 bits hold beside the bound of a million rows.
WIDTH = 128


def words(layout: Layout, sites: int) -> Words:
    """The vector in fixed point, each number on the finest scale that its bound leaves."""
    return fitted({part.name: part.bounds.tolist() for part in layout.parts if part.size}, sites, WIDTH)


def vector(layout: Layout, sums: Mapping[str, Vector]) -> Vector:
    """The total as the statistics take it."""
    found = [sums[part.name] for part in layout.parts if part.size]
    return np.concatenate(found) if found else np.zeros(0)


def context(
    job: str,
    attempt: int,
    participants: Sequence[str],
    parameters: bytes,
    commitments: Mapping[str, bytes],
    ask: Ask,
    layout: Layout,
) -> Context:
    """What the masks of one attempt belong to.

    `parameters` is the job's hash of definition, model and specification,
    `commitments` the cohort hashes of all that froze one.
    """
    sites = tuple(sorted(participants))
    named = {site: commitments[site] for site in sites}
    asked = packed(parameters, ask.phase.encode())
    return Context(
        job=job,
        round=ask.round,
        attempt=attempt,
        participants=sites,
        parameters=parameters_hash(asked, np.array(ask.parameters)),
        cohort=cohort_hash(named),
        layout=words(layout, len(sites)),
    )
