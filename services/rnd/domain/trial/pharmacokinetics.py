"""A drug taken by mouth, one compartment, first-order absorption: the closed form, for many subjects at once.

With G the amount (mg) in the gut and X that in the body, a dose adds to G, and over a time t without a dose

    G(t) = G e^(-ka t)
    X(t) = X e^(-ke t) + G ka phi(t),      phi(t) = (e^(-ke t) - e^(-ka t)) / (ka - ke),   ke = CL / V
    C(t) = X(t) / V

For one dose D this is C(t) = D ka / (V (ka - ke)) (e^(-ke t) - e^(-ka t)), AUC = D / CL and
tmax = ln(ka / ke) / (ka - ke). phi is computed as

    phi(t) = e^(-m t) (1 - e^(-d t)) / d,      m = min(ka, ke), d = |ka - ke|

with `expm1`, which loses no digits where ka is close to ke, and tends to t e^(-m t) where they are equal.

Units: h, mg, L, mg/L. Rows are times or doses, columns are subjects. No
subject is looped over: each distinct time since a dose costs two exponentials
a subject, so 10 doses read at 121 evenly spaced times cost 26.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.refusals import Malformed
from services.rnd.domain.errors import out_of_range

Floats: TypeAlias = npt.NDArray[np.float64]

#: So many subjects are worked on together, so that their numbers stay in the processor's cache.
BLOCK = 1024


@dataclass(frozen=True)
class Oral:
    """Absorption rate `ka` (1/h), clearance `cl` (L/h) and volume `v` (L) of each subject; a single
    number holds for all. Raises Malformed for what is not above 0."""

    ka: Floats
    cl: Floats
    v: Floats

    @classmethod
    def of(cls, ka: npt.ArrayLike, cl: npt.ArrayLike, v: npt.ArrayLike) -> Oral:
        columns = [np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in (ka, cl, v)]
        for name, column in zip(("ka", "cl", "v"), columns, strict=True):
            if column.ndim != 1 or not np.all(np.isfinite(column) & (column > 0)):
                raise out_of_range(f"{name} is one finite number above 0 for each subject", name)
        try:
            ka_, cl_, v_ = np.broadcast_arrays(*columns)
        except ValueError:
            raise Malformed("MISMATCH", "ka, cl and v name equally many subjects", "ka") from None
        return cls(ka_, cl_, v_)

    @property
    def subjects(self) -> int:
        return len(self.ka)

    @property
    def ke(self) -> Floats:
        """Elimination rate, 1/h."""
        rate: Floats = self.cl / self.v
        return rate


def concentrations(
    subjects: Oral, dose_times: Sequence[float], doses: npt.ArrayLike, times: Sequence[float]
) -> Floats:
    """Concentrations in mg/L, of shape (times, subjects).

    `dose_times` (h, rising) and `times` (h, rising, none before 0) hold for
    all; `doses` (mg) is one number, one for each dose time, or of shape
    (dose times, subjects). A dose counts from its own time on. Raises Malformed.
    """
    given, read = _rising(dose_times, "dose_times"), _rising(times, "times")
    amounts = _amounts(doses, len(given), subjects.subjects)
    before = np.searchsorted(given, read, side="right") - 1  # the latest dose at each time; -1 for none
    since = np.where(before >= 0, read - given[np.maximum(before, 0)], 0.0)
    result = np.zeros((len(read), subjects.subjects))
    steps = _Distinct.of(np.diff(given, prepend=given[:1]))
    reads = _Distinct.of(since)
    for begin in range(0, subjects.subjects, BLOCK):
        part = slice(begin, begin + BLOCK)
        _block(subjects, part, amounts[:, part], steps, before, reads, result[:, part])
    return result


def auc(dose: float, subjects: Oral) -> Floats:
    """Area under the curve of one dose from 0 to infinity, mg h/L."""
    area: Floats = dose / subjects.cl
    return area


def peak_time(subjects: Oral) -> Floats:
    """The time of the highest concentration after one dose, h; 1/ke where ka equals ke."""
    low = np.minimum(subjects.ka, subjects.ke)
    apart = np.abs(subjects.ka - subjects.ke)
    near = apart < 1e-12 * low
    safe = np.where(near, 1.0, apart)
    time: Floats = np.where(near, 1 / low, np.log1p(safe / low) / safe)
    return time


def peak(dose: float, subjects: Oral) -> Floats:
    """The highest concentration after one dose, mg/L."""
    body = _phi(subjects.ka, subjects.ke, peak_time(subjects))
    top: Floats = dose * subjects.ka * body / subjects.v
    return top


@dataclass(frozen=True)
class _Distinct:
    """Durations, and for each place of a list which of them it is."""

    values: tuple[float, ...]
    which: tuple[int, ...]

    @classmethod
    def of(cls, durations: Floats) -> _Distinct:
        # Rounded to less than a microsecond, so that 0.1 + 0.2 is no duration of its own beside 0.3.
        values, which = np.unique(np.round(durations, 10), return_inverse=True)
        return cls(tuple(values.tolist()), tuple(which.tolist()))


def _block(
    subjects: Oral,
    part: slice,
    amounts: Floats,
    steps: _Distinct,
    before: npt.NDArray[np.int64],
    reads: _Distinct,
    result: Floats,
) -> None:
    """The subjects of one block, written into their columns of the result."""
    ka, ke, v = subjects.ka[part], subjects.ke[part], subjects.v[part]

    def decays(durations: Sequence[float]) -> list[tuple[Floats, Floats, Floats]]:
        return [(np.exp(-ka * t), np.exp(-ke * t), ka * _phi(ka, ke, t)) for t in durations]

    over, until = decays(steps.values), decays(reads.values)
    gut, body = np.zeros_like(ka), np.zeros_like(ka)
    states = []
    for amount, step in zip(amounts, steps.which, strict=True):
        gut_left, body_left, passed = over[step]
        body = body * body_left + gut * passed
        gut = gut * gut_left + amount
        states.append((gut / v, body / v))
    for row, (state, read) in enumerate(zip(before.tolist(), reads.which, strict=True)):
        if state < 0:
            continue
        gut, body = states[state]
        _, body_left, passed = until[read]
        np.multiply(body, body_left, out=result[row])
        result[row] += gut * passed


def _phi(ka: Floats, ke: Floats, t: Floats | float) -> Floats:
    low, apart = np.minimum(ka, ke), np.abs(ka - ke)
    equal = apart == 0
    safe = np.where(equal, 1.0, apart)
    value: Floats = np.exp(-low * t) * np.where(equal, t, -np.expm1(-safe * t) / safe)
    return value


def _rising(times: Sequence[float], field: str) -> Floats:
    found = np.asarray(times, dtype=np.float64)
    if not found.size or found.ndim != 1 or not np.all(np.isfinite(found)) or found[0] < 0:
        raise out_of_range(f"{field} are finite hours, none below 0", field)
    if np.any(np.diff(found) <= 0):
        raise out_of_range(f"{field} rise, none twice", field)
    return found


def _amounts(doses: npt.ArrayLike, count: int, subjects: int) -> Floats:
    found = np.asarray(doses, dtype=np.float64)
    if not np.all(np.isfinite(found) & (found >= 0)):
        raise out_of_range("doses are finite, none below 0 mg", "doses")
    if found.ndim == 1:
        found = found[:, None]
    try:
        return np.broadcast_to(found, (count, subjects))
    except ValueError:
        said = f"doses are one number, one for each of the {count} dose times, or that for each subject"
        raise Malformed("MISMATCH", said, "doses") from None
