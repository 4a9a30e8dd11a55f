"""Between the statistics and the secure sum: how numbers become words, and what the masks belong to.

The coordinator and every site make these alike from what was agreed, so that
nobody has to be believed: a site that was asked something else masks for
something else, and the sum is noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from services.exchange.domain.aggregation.context import Context, cohort_hash, packed, parameters_hash
from services.exchange.domain.aggregation.layout import FRACTION_BITS, Part
from services.exchange.domain.aggregation.layout import Layout as Words
from services.exchange.domain.stats.protocol import Ask, Layout, Model, Spec, Vector
from services.exchange.domain.stats.protocol import Part as Numbers
from services.refusals import Malformed, Refusal

#: Sums of a regression need more digits than 64 bits hold beside the bound of a million rows.
WIDTH = 128
#: Left of a word beside the sum: its sign, and what rounding adds.
_SPARE_BITS = 2


def words(layout: Layout, sites: int) -> Words:
    """The vector in fixed point, 64 fraction bits or what the largest bound of a part leaves.

    One bound a part is enough: in 128 bits no digit is short, and the layout of
    the statistics has checked each number by its own bound.
    """
    return Words(tuple(_part(part, sites) for part in layout.parts if part.size), WIDTH)


def _part(part: Numbers, sites: int) -> Part:
    # A hair of room, as the layout of the statistics leaves it, for sums are rounded.
    bound = float(part.bounds.max()) * (1 + 1e-9) + 1e-9
    if not math.isfinite(bound):
        said = f"{part.name} has no finite bound at these parameters: nothing is masked"
        raise Malformed("NO_BOUND", said, "parameters")
    room = WIDTH - _SPARE_BITS - math.ceil(math.log2(bound * sites))
    return Part(part.name, part.size, bound, max(0, min(FRACTION_BITS[WIDTH], room)))


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


def check_course(model: Model, spec: Spec, opened: str, asked: str) -> None:
    """Refuses a phase out of its turn; `opened` is that of the last opened round, empty before the first.

    Each phase of a job comes once, but for the steps of a fit: what a site has
    answered under noise it does not answer again, and sums that are asked for
    once tell less than sums at any number of points.
    """
    course = ("", *model.course(spec))
    if asked == opened == model.repeats and asked:
        return
    following = course[course.index(opened) + 1 :][:1]
    if (asked,) != following:
        said = f"after {opened or 'the freeze'} comes {following[0] if following else 'nothing'}, not {asked}"
        raise Refusal("PHASE_OUT_OF_TURN", said, "phase")
