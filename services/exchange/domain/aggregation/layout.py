"""Numbers as fixed point in words that wrap: how they are laid out, bounded, encoded and read.

A value x is sent as round(x 2^b), b the fraction bits of its part, modulo 2^64
or 2^128. Sums modulo the word are exact as long as the true sum fits. A sum
that does not fit wraps, and nobody can see that afterwards, so each part
declares a bound that is checked before masking.

Inputs standardised by the job's own mean and deviation have bounds known in
advance and fit 64 bits; others take 128 bits, as two words of 64, low first.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.refusals import Malformed, Refusal

Floats = NDArray[np.float64]
#: Words of a vector: shape (numbers, limbs), little-endian limbs.
Words = NDArray[np.uint64]

#: Fraction bits: 1.5e-11 in 64 bits, sums up to 1.3e8; 5.4e-20 in 128 bits, sums up to 9.2e18.
FRACTION_BITS = {64: 36, 128: 64}
_LIMB = 64
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """`size` numbers of one meaning, none beyond `bound` in absolute value at any site.

    `bound` and `fraction_bits` are one for all numbers of the part, or one for
    each. `fraction_bits` None means the usual of the layout's width.
    """

    name: str
    size: int
    bound: float | tuple[float, ...]
    fraction_bits: int | tuple[int, ...] | None = None

    def bounds(self) -> tuple[float, ...]:
        """The bound of each number, or one for all."""
        return self.bound if isinstance(self.bound, tuple) else (self.bound,)


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts of a vector in order, and the width of a word, 64 or 128 bits."""

    parts: tuple[Part, ...]
    width: int = 64

    def __post_init__(self) -> None:
        if self.width not in FRACTION_BITS:
            raise Malformed("BAD_WIDTH", f"a word has 64 or 128 bits, not {self.width}", "width")
        if not self.parts:
            raise Malformed("NO_PARTS", "a vector has at least one part: declare it", "parts")
        if len({part.name for part in self.parts}) != len(self.parts):
            raise Malformed("PART_TWICE", "each part has a name of its own", "parts")
        for part in self.parts:
            self._check(part)

    def _check(self, part: Part) -> None:
        if part.size < 1:
            raise Malformed("EMPTY_PART", f"part {part.name!r} has no numbers", "parts")
        if {len(part.bounds()), len(self.bits(part))} - {1, part.size}:
            raise Malformed(
                "WRONG_LENGTH",
                f"part {part.name!r} has one bound and scale for all, or for each number",
                "parts",
            )
        if not all(math.isfinite(bound) and bound > 0 for bound in part.bounds()):
            raise Malformed(
                "NO_BOUND", f"part {part.name!r} declares no bound: it must be finite and positive", "parts"
            )
        if not all(0 <= bits < self.width for bits in self.bits(part)):
            raise Malformed(
                "BAD_SCALE", f"part {part.name!r}: fraction bits are 0..{self.width - 1}", "parts"
            )

    @property
    def size(self) -> int:
        """Numbers in a vector."""
        return sum(part.size for part in self.parts)

    @property
    def limbs(self) -> int:
        return self.width // _LIMB

    @property
    def nbytes(self) -> int:
        """Bytes of a masked vector."""
        return self.size * self.width // 8

    def bits(self, part: Part) -> tuple[int, ...]:
        """The fraction bits of each number of a part, or one for all."""
        if part.fraction_bits is None:
            return (FRACTION_BITS[self.width],)
        return part.fraction_bits if isinstance(part.fraction_bits, tuple) else (part.fraction_bits,)

    def digest(self) -> bytes:
        return _digest(self)

    def check_sites(self, sites: int) -> None:
        """Refuse when the sum over `sites` could wrap though every site keeps to its bounds."""
        for part in self.parts:
            if any(sites * largest(*pair) >= 1 << (self.width - 1) for pair in _pairs(self, part)):
                raise Malformed(
                    "SUM_CAN_WRAP",
                    f"part {part.name!r}: {sites} sites within {max(part.bounds()):g} can exceed the word: "
                    "declare a smaller bound, fewer fraction bits, standardised inputs or 128 bits",
                    "parts",
                )

    def check(self, vector: Floats) -> None:
        """Refuse a vector of another length, with a number that is none, or beyond its bound."""
        if vector.shape != (self.size,):
            raise Refusal(
                "WRONG_LENGTH", f"the vector has shape {vector.shape}, the layout {(self.size,)}", "vector"
            )
        if not np.isfinite(vector).all():
            raise Refusal("NOT_A_NUMBER", "the vector holds a value that is no finite number", "vector")
        beyond = np.abs(vector) > _bounds(self)
        if beyond.any():
            name, place = self._place(int(beyond.argmax()))
            raise Refusal(
                "BEYOND_BOUND",
                f"number {place} of part {name!r} is beyond the declared bound: nothing was sent. "
                "Standardise the input, declare a larger bound, or use 128 bits",
                "vector",
            )

    def _place(self, index: int) -> tuple[str, int]:
        for part in self.parts:
            if index < part.size:
                return part.name, index
            index -= part.size
        raise AssertionError("the index lies within the layout")

    def encode(self, vector: Floats) -> Words:
        """Fixed point, two's complement; the vector has been checked."""
        scaled = np.rint(np.ldexp(vector, _exponents(self)))
        if self.width == _LIMB:
            return scaled.astype(np.int64).astype(np.uint64).reshape(-1, 1)
        # Of the absolute value both limbs are exact in a double; of a negative number the low one is not.
        size = np.abs(scaled)
        high = np.floor(np.ldexp(size, -_LIMB))
        low = size - np.ldexp(high, _LIMB)
        words = np.stack([low.astype(np.uint64), high.astype(np.uint64)], axis=1)
        return np.where((scaled < 0)[:, None], subtract(np.zeros_like(words), words), words)

    def decode(self, words: Words) -> Floats:
        """The numbers, each the double next to the exact sum; Refusal when they cannot be the sum of any."""
        if self.width == _LIMB:
            return np.ldexp(words[:, 0].astype(np.int64).astype(np.float64), -_exponents(self))
        numbers = zip(integers(words), _exponents(self).tolist(), strict=True)
        return np.array([number / (1 << bits) for number, bits in numbers])

    def check_total(self, words: Words, sites: int) -> None:
        """Refuse a total larger than `sites` sites within their bounds can give: it is noise."""
        limits = _limits(self, sites)
        if self.width == _LIMB:
            numbers, highest = words[:, 0].astype(np.int64), np.array(limits, dtype=np.int64)
            noise = bool(((numbers > highest) | (numbers < -highest)).any())
        else:
            noise = any(abs(number) > limit for number, limit in zip(integers(words), limits, strict=True))
        if noise:
            raise Refusal(
                "TOTAL_IS_NOISE",
                "the masks do not cancel: the sites did not mask for the same round, or sent altered vectors",
                "total",
            )

    def split(self, vector: Floats) -> dict[str, Floats]:
        """The parts of a decoded vector by name."""
        ends = np.cumsum([part.size for part in self.parts])[:-1]
        return dict(zip((part.name for part in self.parts), np.split(vector, ends), strict=True))


def fitted(parts: Mapping[str, Sequence[float]], sites: int, width: int = 64) -> Layout:
    """A layout for numbers with the bounds given, each on the finest scale at which the sum cannot wrap.

    In 64 bits and for three sites that is 2^-61 of the bound, so it suits
    numbers whose bounds are not much larger than they are; 128 bits forgive
    loose bounds. Malformed when a bound is too large for the width. Bounds get
    a hair of room, because a sum of rounded products may pass n times the
    largest product by its rounding.
    """
    made = []
    for name, given in parts.items():
        bounds = tuple(bound * (1 + 1e-9) + 1e-9 for bound in map(float, given))
        bits = tuple(_finest(bound, sites, width) for bound in bounds)
        made.append(Part(name, len(bounds), bounds, bits))
    layout = Layout(tuple(made), width)
    layout.check_sites(sites)
    return layout


def _finest(bound: float, sites: int, width: int) -> int:
    if not math.isfinite(bound):
        return 0  # refused by name when the layout is made
    bits = width - 2 - math.frexp(bound)[1] - math.frexp(sites)[1]
    return min(max(bits, 0), width - 2)


def largest(bound: float, bits: int) -> int:
    """The largest integer one site can send within a bound; one more, for rounding."""
    numerator, denominator = float(bound).as_integer_ratio()
    return -(-(numerator << bits) // denominator) + 1


def _pairs(layout: Layout, part: Part) -> list[tuple[float, int]]:
    """Bound and fraction bits of each number of a part, or one pair for all."""
    bounds, bits = part.bounds(), layout.bits(part)
    length = max(len(bounds), len(bits))
    return list(zip(_each(bounds, length), _each(bits, length), strict=True))


def _each(values: tuple[T, ...], length: int) -> tuple[T, ...]:
    return values if len(values) == length else values * length


def integers(words: Words) -> list[int]:
    """Words as Python integers, signed."""
    if words.shape[1] == 1:
        return [int(word) for word in words[:, 0].astype(np.int64).tolist()]
    highs = words[:, 1].astype(np.int64).tolist()
    return [(high << _LIMB) + low for low, high in zip(words[:, 0].tolist(), highs, strict=True)]


def add(one: Words, other: Words) -> Words:
    """Sum modulo the word."""
    total = one + other
    if total.shape[1] > 1:
        total[:, 1] += total[:, 0] < one[:, 0]
    return total


def subtract(one: Words, other: Words) -> Words:
    """Difference modulo the word."""
    left = one - other
    if left.shape[1] > 1:
        left[:, 1] -= one[:, 0] < other[:, 0]
    return left


def to_bytes(words: Words) -> bytes:
    return words.astype("<u8").tobytes()


def from_bytes(layout: Layout, data: bytes) -> Words:
    """Words of a vector; Malformed when there are not as many as the layout has."""
    if len(data) != layout.nbytes:
        raise Malformed(
            "WRONG_LENGTH",
            f"a masked vector of this layout has {layout.nbytes} bytes, not {len(data)}",
            "words",
        )
    return np.frombuffer(data, dtype="<u8").astype(np.uint64).reshape(-1, layout.limbs)


# A layout serves every round of its job; these are the same each time.
@lru_cache(maxsize=64)
def _exponents(layout: Layout) -> NDArray[np.int64]:
    each = [np.broadcast_to(layout.bits(part), (part.size,)) for part in layout.parts]
    return np.concatenate(each).astype(np.int64)


@lru_cache(maxsize=64)
def _bounds(layout: Layout) -> Floats:
    each = [np.broadcast_to(part.bounds(), (part.size,)) for part in layout.parts]
    return np.concatenate(each).astype(np.float64)


@lru_cache(maxsize=64)
def _limits(layout: Layout, sites: int) -> list[int]:
    limits: list[int] = []
    for part in layout.parts:
        each = tuple(sites * largest(*pair) for pair in _pairs(layout, part))
        limits += _each(each, part.size)
    return limits


@lru_cache(maxsize=64)
def _digest(layout: Layout) -> bytes:
    each = [
        (part.name, part.size, [float(bound) for bound in part.bounds()], layout.bits(part))
        for part in layout.parts
    ]
    return hashlib.sha256(repr((layout.width, each)).encode()).digest()
