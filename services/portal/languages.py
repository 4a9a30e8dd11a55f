"""Chinese and English: which one a browser gets, its catalogue, and how numbers and moments are written.

A sentence stands in the code in English; `locales/zh/*.po` have it in Chinese, one catalogue for each
part of the portal. A catalogue is read as text when the portal starts, so there is nothing to compile.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale, dates, lists, numbers
from babel.messages.pofile import read_po
from google.protobuf.timestamp_pb2 import Timestamp

LOCALES = Path(__file__).with_name("locales")
CHINESE, ENGLISH = "zh", "en"
NAMES = {CHINESE: "中文", ENGLISH: "English"}
_BABEL = {CHINESE: "zh_Hans_CN", ENGLISH: "en"}
_TAGS = {CHINESE: "zh-Hans-CN", ENGLISH: "en"}


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """The sentences of a language by their English."""
    told: dict[str, str] = {}
    for file in sorted((LOCALES / language).glob("*.po")):
        with file.open("rb") as source:
            for message in read_po(source, locale=_BABEL[language]):
                if message.id and message.string:
                    told[str(message.id)] = str(message.string)
    return told


@dataclass(frozen=True)
class Language:
    """One language with its ways to write; `zone` is the reader's time zone."""

    code: str
    zone: str = "UTC"

    @property
    def tag(self) -> str:
        """As HTML's `lang` says it (BCP 47)."""
        return _TAGS[self.code]

    @property
    def _locale(self) -> Locale:
        return _locale(self.code)

    def say(self, english: str, **values: object) -> str:
        """The sentence in this language, with its values."""
        text = catalogue(self.code).get(english, english)
        return text % values if values else text

    def listed(self, parts: Sequence[str]) -> str:
        """Several things in one line, as the language lists them."""
        return lists.format_list(parts, locale=self._locale) if parts else ""

    def number(self, value: float, digits: int = 3) -> str:
        """A number to significant digits, grouped as the language does."""
        if not math.isfinite(value):
            return "–"
        return numbers.format_decimal(
            float(f"{value:.{digits}g}"), locale=self._locale, decimal_quantization=False
        )

    def count(self, value: int) -> str:
        """A whole number, exact."""
        return numbers.format_decimal(value, locale=self._locale)

    def percent(self, share: float, digits: int = 1) -> str:
        return numbers.format_percent(
            round(share, digits + 2), locale=self._locale, decimal_quantization=False
        )

    def moment(self, at: Timestamp | datetime | None) -> str:
        """A moment with its day, in the reader's zone; empty when there is none."""
        known = _moment(at)
        return _written(known.replace(microsecond=0), self.zone, self.code) if known else ""

    def time(self, at: datetime, seconds: bool = False) -> str:
        """The time of day in the reader's zone, for an axis: "14:30"."""
        form = "medium" if seconds else "short"
        return dates.format_time(at, form, tzinfo=ZoneInfo(self.zone), locale=self._locale)

    def day(self, at: datetime) -> str:
        """The day in the reader's zone, without its year."""
        return dates.format_skeleton("MMMd", at, tzinfo=ZoneInfo(self.zone), locale=self._locale)

    def span(self, seconds: float) -> str:
        """How long, to its largest unit: "4 minutes"."""
        if seconds < 1:
            return self.say("%(n)s s", n=self.number(seconds, 2))
        return dates.format_timedelta(
            timedelta(seconds=seconds), granularity="second", threshold=1.5, locale=self._locale
        )


@cache
def _locale(code: str) -> Locale:
    return Locale.parse(_BABEL[code])


@lru_cache(maxsize=20_000)
def _written(at: datetime, zone: str, code: str) -> str:
    """A moment as a page shows it; a board tells the same ones again and again."""
    return dates.format_datetime(at, "medium", tzinfo=ZoneInfo(zone), locale=_locale(code))


def _moment(at: Timestamp | datetime | None) -> datetime | None:
    if isinstance(at, Timestamp):
        return at.ToDatetime(UTC) if at.seconds or at.nanos else None
    return at


def chosen(cookie: str, accepted: str) -> str:
    """The language of a reader: what was picked, else the first that the browser accepts, else Chinese."""
    if cookie in NAMES:
        return cookie
    wanted = sorted(_accepted(accepted), key=lambda one: -one[1])
    for tag, weight in wanted:
        primary = tag.partition("-")[0].lower()
        if weight > 0 and primary in NAMES:
            return primary
    return ENGLISH if wanted and wanted[0][0] != "*" else CHINESE


_RANGE = re.compile(r"\*|[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")


def _accepted(header: str) -> list[tuple[str, float]]:
    """Ranges of languages with their weights (RFC 9110, 12.5.4; RFC 4647, 2.1); rubbish is passed over."""
    found = []
    for part in header.split(",")[:50]:
        tag, _, rest = part.strip().partition(";")
        weight = rest.strip().removeprefix("q=") or "1"
        try:
            found.append((tag.strip(), float(weight)))
        except ValueError:
            continue
    return [(tag, weight) for tag, weight in found if _RANGE.fullmatch(tag) and 0 <= weight <= 1]
