"""A virtual trial as a record: what it was for, what went in, what came out, and an id made of all that.

The fields follow ICH M15 (question of interest, context of use) and ASME V&V 40; with seed, data hash
and versions the run can be repeated, and the id says whether the result is the same.

The id is the SHA-256 of the record as canonical JSON (RFC 8785: keys in order, no white space, numbers
as ECMAScript prints them, UTF-8). Numbers that were computed are rounded to `DIGITS` significant
digits first: beyond them two processors may differ.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeAlias

import numpy as np

from services.refusals import Malformed
from services.rnd.domain.errors import named
from services.rnd.domain.trial.virtual import Verdict

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"
DIGITS = 9
#: The first version of what is hashed; a change of the record's fields is a new one.
FORM = "pharmaloop.trial/1"
_HASH = re.compile(r"[0-9a-f]{64}")
_SAFE_INTEGER = 2**53 - 1


@dataclass(frozen=True)
class TrialRecord:
    """One run. Raises Malformed for a field left empty, a negative seed, a hash that is none.

    `design` and `result` are any dataclass, mapping, sequence or number; they are held plain. `model` names
    the model with its version (warfarin/xia-2024), `code` the version of the software, `data_hash`
    what `content_hash` gives of population, lots and other data used.
    """

    question: str
    context_of_use: str
    model: str
    code: str
    seed: int
    data_hash: str
    design: Any
    result: Any
    verdict: Verdict

    def __post_init__(self) -> None:
        for name in ("question", "context_of_use", "model", "code"):
            named(getattr(self, name), name)
        if isinstance(self.seed, bool) or not 0 <= self.seed <= _SAFE_INTEGER:
            raise Malformed("OUT_OF_RANGE", "the seed is a whole number from 0 to 2^53 - 1", "seed")
        if not _HASH.fullmatch(self.data_hash):
            raise Malformed("MALFORMED", "the data hash is a SHA-256, 64 lower-case hex digits", "data_hash")
        object.__setattr__(self, "design", plain(self.design, "design"))
        object.__setattr__(self, "result", plain(self.result, "result"))

    @property
    def trial_id(self) -> str:
        """SHA-256 of the record, 64 hex digits."""
        return content_hash(self.content())

    @property
    def asked_id(self) -> str:
        """SHA-256 of what was asked, without result and verdict: the same for the same trial asked again."""
        told = self.content()
        return content_hash({name: told[name] for name in told if name not in ("result", "verdict")})

    def content(self) -> dict[str, Plain]:
        """What is hashed."""
        told = {one.name: plain(getattr(self, one.name), one.name) for one in fields(self)}
        return {"form": FORM, **told}

    def document(self) -> str:
        """The canonical JSON that the id is made of."""
        return canonical(self.content())


def differences(one: TrialRecord, other: TrialRecord) -> tuple[str, ...]:
    """The fields in which two records differ; none when one is a repetition of the other."""
    left, right = one.content(), other.content()
    return tuple(name for name in left if left[name] != right[name])


def content_hash(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, 64 hex digits. Raises Malformed for what JSON cannot hold."""
    return hashlib.sha256(canonical(plain(value, "value")).encode()).hexdigest()


def plain(value: Any, field: str) -> Plain:
    """A value as JSON holds it: dataclasses and mappings as objects (a key of several parts joined by
    commas), sequences and arrays as lists, numbers rounded. Raises Malformed."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return _rounded(float(value), field)
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one, field) for one in value]
    return _object(value, field)


def _object(value: Any, field: str) -> Plain:
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name), f"{field}.{one.name}") for one in fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): plain(one, f"{field}.{_key(key)}") for key, one in value.items()}
    raise Malformed("MALFORMED", f"{type(value).__name__} has no place in a record", field)


def canonical(value: Plain) -> str:
    """Canonical JSON by RFC 8785."""
    if isinstance(value, dict):
        # The order of UTF-16 code units, as the standard says; that of big-endian bytes is the same.
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{_text(name)}:{canonical(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(one) for one in value) + "]"
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _number(value)


def _number(value: int | float) -> str:
    """As ECMAScript prints it: no fraction of 0, exponents from 1e21 and below 1e-6, without padding."""
    if isinstance(value, int) and abs(value) > _SAFE_INTEGER:
        raise Malformed("OUT_OF_RANGE", "a whole number in a record is within 2^53 - 1", "value")
    number = float(value)
    if not math.isfinite(number):
        raise Malformed("OUT_OF_RANGE", "a number in a record is finite", "value")
    if number == 0:
        return "0"
    digits, _, exponent = f"{number!r}".lstrip("-").partition("e")
    whole, _, part = digits.partition(".")
    part = "" if part == "0" else part
    figures = (whole + part).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + part) - len(figures))
    figures = figures.rstrip("0")
    sign = "-" if number < 0 else ""
    return sign + _placed(figures, point)


def _placed(figures: str, point: int) -> str:
    """Significant figures with the decimal point after so many of them."""
    if len(figures) <= point <= 21:
        return figures + "0" * (point - len(figures))
    if 0 < point <= 21:
        return f"{figures[:point]}.{figures[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + figures
    rest = f".{figures[1:]}" if len(figures) > 1 else ""
    return f"{figures[0]}{rest}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _rounded(value: float, field: str) -> float:
    if not math.isfinite(value):
        raise Malformed("OUT_OF_RANGE", f"{field} is a finite number, this is {value}", field)
    return float(f"{value:.{DIGITS}g}")


def _key(key: Any) -> str:
    return ",".join(map(str, key)) if isinstance(key, tuple) else str(key)
