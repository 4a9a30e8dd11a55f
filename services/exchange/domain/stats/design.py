"""The design of a regression: which columns, seen how, and the scaling that all sites share.

A term is a number in an agreed range, or one level of a column whose levels are
agreed (all but the reference). Two rounds come before the first fit:

    presence   at how many sites a column is not all zero. A level at one site
               only would tell that site's sums: it is dropped or refused before
               anything else of it is asked.
    moments    sums of u and u^2, u = (x - middle) / half of the agreed range, so
               that nothing depends on units. They give the mean and the standard
               deviation over all rows of all sites (ddof 0).

Every site then uses z = (x - mean) / sd; scaling by each site's own mean would
throw away what differs between sites. The estimates are taken back to the units
of x. Without an intercept (and without a Cox baseline) columns are only divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.exchange.domain.errors import Unfit
from services.exchange.domain.stats import columns
from services.exchange.domain.stats.protocol import Columns, Fixed, Part, Vector, part
from services.exchange.domain.stats.reading import Fields, Levels, Measured, Protection, measured
from services.refusals import Malformed

#: Divisor of the variance that scales the columns: n - DDOF.
DDOF = 0

#: Below this variance of u a column counts as constant: its digits are lost in the agreed range.
_CONSTANT = 1e-10


@dataclass(frozen=True)
class Term:
    """One column of the design. `place` is that of the level among the agreed; None of a number."""

    name: str
    source: Measured | Levels
    place: int | None = None

    @property
    def low(self) -> float:
        return self.source.low if isinstance(self.source, Measured) else 0.0

    @property
    def high(self) -> float:
        return self.source.high if isinstance(self.source, Measured) else 1.0


def terms(fields: Fields) -> tuple[Term, ...]:
    """Reads the field `terms`: {column, low, high} or {column, levels, reference}."""
    found: list[Term] = []
    inner = fields.list_of("terms")
    for one in inner:
        found.extend(_expanded(one))
    fields.out["terms"] = [one.out for one in inner]
    names = [term.name for term in found]
    if len(set(names)) != len(names):
        raise Malformed("TERM_TWICE", "each column is a term once", fields.field("terms"))
    return tuple(found)


def _expanded(fields: Fields) -> list[Term]:
    if "levels" not in fields.said:
        source = measured(fields)
        return [Term(source.column, source)]
    agreed = Levels(fields.text("column"), fields.texts("levels", 2))
    reference = fields.choice("reference", agreed.levels)
    fields.finish()
    return [
        Term(f"{agreed.column}={level}", agreed, place)
        for place, level in enumerate(agreed.levels)
        if level != reference
    ]


def matrix(found: Sequence[Term], table: Columns, n: int) -> Vector:
    """The terms of each row in their own units, shape (n, terms). Raises Unfit for what does not fit."""
    if isinstance(table, Fixed):
        return table.once(("matrix", *found), lambda: _matrix(found, table, n))
    return _matrix(found, table, n)


def _matrix(found: Sequence[Term], table: Columns, n: int) -> Vector:
    held = np.zeros((n, len(found)), order="F")
    if n == 0:
        return held
    known: dict[str, columns.Index] = {}
    for at, term in enumerate(found):
        if isinstance(term.source, Measured):
            held[:, at] = columns.values(table, term.source.column)
        else:
            column = term.source.column
            if column not in known:
                known[column] = columns.places(table, term.source)
            held[:, at] = known[column] == term.place
    _check_ranges(found, held, table)
    return held


def _check_ranges(found: Sequence[Term], held: Vector, table: Columns) -> None:
    """All columns at once; one by one, for the name, where something does not fit."""
    low, high = np.array([(term.low, term.high) for term in found]).T
    if not (np.all(held >= low) and np.all(held <= high)):
        for term in found:
            if isinstance(term.source, Measured):
                columns.within(table, term.source)


@dataclass(frozen=True, eq=False)
class Frame:
    """Which terms are kept, and how they are scaled: z = (x - centre) / scale, of kept terms."""

    kept: tuple[bool, ...]
    centre: Vector
    scale: Vector

    def pack(self) -> list[float]:
        return [*map(float, self.kept), *self.centre.tolist(), *self.scale.tolist()]

    @staticmethod
    def unpack(flat: Sequence[float], count: int) -> tuple[Frame, tuple[float, ...]]:
        """The frame of `count` terms, and what follows it. Raises Malformed where it cannot be one."""
        kept = tuple(value == 1.0 for value in flat[:count])
        width = sum(kept)
        rest = tuple(flat[count:])
        if len(kept) < count or len(rest) < 2 * width:
            raise Malformed("WRONG_PARAMETERS", "the scaling of the columns is incomplete", "parameters")
        frame = Frame(kept, np.array(rest[:width]), np.array(rest[width : 2 * width]))
        if not np.all(np.isfinite(frame.centre)) or not np.all(frame.scale > 0):
            raise Malformed("WRONG_PARAMETERS", "columns are divided by numbers greater than 0", "parameters")
        return frame, rest[2 * width :]

    def of(self, found: Sequence[Term]) -> list[Term]:
        return [term for term, kept in zip(found, self.kept, strict=True) if kept]

    def scaled(self, raw: Vector, intercept: bool) -> Vector:
        """The design that is fitted, of all terms' raw columns: kept and scaled, after ones where asked."""
        held = (raw[:, list(self.kept)] - self.centre) / self.scale
        return np.column_stack([np.ones(len(raw)), held]) if intercept else held

    def reach(self, found: Sequence[Term], intercept: bool) -> Vector:
        """The largest absolute value of each column of the scaled design, by the agreed ranges."""
        kept = self.of(found)
        low = np.array([term.low for term in kept])
        high = np.array([term.high for term in kept])
        held = np.maximum(np.abs(low - self.centre), np.abs(high - self.centre)) / self.scale
        return np.concatenate([[1.0], held]) if intercept else held

    def back(self, intercept: bool, shift: float = 0.0, stretch: float = 1.0) -> tuple[Vector, Vector]:
        """A and b of: estimates in the units of the data = A estimates + b.

        `shift` and `stretch` are those of a scaled outcome: y = shift + stretch times what was fitted.
        """
        map_ = np.diag(stretch / self.scale)
        if not intercept:
            return map_, np.zeros(len(self.scale))
        size = len(self.scale) + 1
        whole = np.zeros((size, size))
        whole[1:, 1:] = map_
        whole[0, 0] = stretch
        whole[0, 1:] = -stretch * self.centre / self.scale
        constant = np.zeros(size)
        constant[0] = shift
        return whole, constant


def presence_parts(found: Sequence[Term]) -> list[Part]:
    return [part("site", 1, 1.0), part("present", len(found), 1.0)]


def presence(raw: Vector) -> dict[str, Vector]:
    """1 if there are rows, and 1 for each column that is not all zero; summed, these count sites."""
    n = len(raw)
    return {"site": np.array([float(n > 0)]), "present": np.any(raw != 0, axis=0).astype(float)}


def kept_terms(
    found: Sequence[Term], present: Vector, sites: float, rules: Protection
) -> tuple[tuple[bool, ...], tuple[str, ...]]:
    """Which terms go on, and flags for those that do not.

    Raises Unfit where too few sites have rows, or where a column is present at
    too few and the rule is to refuse, or where nothing is left.
    """
    contributing(sites, rules)
    kept = tuple(round(float(count)) >= rules.sites_at_least for count in present)
    lost = [term.name for term, stays in zip(found, kept, strict=True) if not stays]
    if lost and rules.one_site == "refuse":
        said = (
            f"{', '.join(lost)} is present at fewer than {rules.sites_at_least} sites; "
            "join levels, leave the term out, or agree to drop such terms (one_site)"
        )
        raise Unfit("TOO_FEW_SITES_FOR_TERM", said, "terms")
    if not any(kept):
        raise Unfit("NO_TERM_LEFT", "no term is present at enough sites; choose other terms", "terms")
    return kept, tuple(f"DROPPED:{name}" for name in lost)


def contributing(sites: float, rules: Protection) -> None:
    """Raises Unfit where fewer sites have rows than agreed."""
    if round(float(sites)) < rules.contributing_at_least:
        said = (
            f"{round(float(sites))} sites have rows; at least {rules.contributing_at_least} are needed, "
            "since of fewer the sum tells one to the other"
        )
        raise Unfit("TOO_FEW_SITES", said, "contributing_at_least")


def moment_parts(kept: Sequence[Term], rows_at_most: int) -> list[Part]:
    count = len(kept)
    return [
        part("rows", 1, rows_at_most),
        part("sum", count, rows_at_most),
        part("square", count, rows_at_most),
    ]


def moments(kept: Sequence[Term], raw: Vector) -> dict[str, Vector]:
    """Rows, and the sums of u and u^2 of each kept column (`raw` holds the kept columns alone)."""
    middle = np.array([(term.low + term.high) / 2 for term in kept])
    half = np.array([(term.high - term.low) / 2 for term in kept])
    u = (raw - middle) / half
    return {"rows": np.array([float(len(raw))]), "sum": u.sum(axis=0), "square": (u**2).sum(axis=0)}


def frame(
    found: Sequence[Term],
    kept: tuple[bool, ...],
    total: dict[str, Vector],
    centred: bool,
    keeps_constant: bool,
) -> Frame:
    """The scaling from the sums of all sites.

    Raises Unfit for a constant column, unless `keeps_constant` (a ridge can carry it; it is not scaled).
    """
    n = float(total["rows"][0])
    chosen = [term for term, stays in zip(found, kept, strict=True) if stays]
    middle = np.array([(term.low + term.high) / 2 for term in chosen])
    half = np.array([(term.high - term.low) / 2 for term in chosen])
    mean = total["sum"] / n
    variance = np.maximum(total["square"] / n - mean**2, 0.0)
    flat = [term.name for term, value in zip(chosen, variance, strict=True) if value < _CONSTANT]
    if flat and centred and not keeps_constant:
        said = f"{', '.join(flat)} does not vary over all rows (or hardly within its range); leave it out"
        raise Unfit("CONSTANT_COLUMN", said, "terms")
    scale = np.where(variance < _CONSTANT, 1.0, np.sqrt(variance)) * half
    centre = middle + half * mean if centred else np.zeros(len(chosen))
    return Frame(kept, centre, scale)
