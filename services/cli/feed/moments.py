"""Moments as tables write them, with the offset from UTC of their source.

    2026-03-05T14:02:11+08:00   ISO 8601 with its offset
    2026-03-05 14:02            and without: the zone must be told
    2026/3/5 14:02, 2026年3月5日, 20260305, 20260305140211
    46086.5847                  a serial date of Excel (1900 system)
    5.3.2026, 3/5/26            only with a date format: who knows which is the month

A day without a time is its midnight. What may be read in two ways is refused,
never guessed.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.common.v1 import types_pb2 as common
from services.cli.session import Failure
from services.kit.errors import Invalid

#: The date format that says: every number is a serial date of Excel.
EXCEL = "excel"
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})", re.ASCII)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?", re.ASCII)
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(\d{2})(\d{2})?)?", re.ASCII)
_YEAR_FIRST = re.compile(r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?(?:[T\s]+(\d{1,2}:\d{2}.*))?", re.ASCII)
_DAY_OR_MONTH_FIRST = re.compile(r"\d{1,2}([-/.])\d{1,2}\1(\d{2}|\d{4})\b.*", re.ASCII)
#: Serials that need no word from the user: the days of the years 2000 to 2049.
_PLAIN_SERIALS = (36_526, 54_789)
_LAST_SERIAL = 2_958_466
_FALSE_LEAP_DAY = 60
_MILLISECONDS_OF_DAY = 86_400_000


def zone_of(name: str) -> tzinfo | None:
    """The zone of a name ('Asia/Shanghai') or an offset ('+08:00'); None for no name."""
    if not name:
        return None
    try:
        if found := _OFFSET.fullmatch(name):
            away = timedelta(hours=int(found[2]), minutes=int(found[3]))
            return timezone(-away if found[1] == "-" else away)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Failure(
            f"{name!r} is no time zone; write for example Asia/Shanghai, Europe/Berlin, UTC or +08:00"
        ) from None


def check_format(date_format: str) -> None:
    """Failure where a date format is none, or has no year in it."""
    if not date_format or date_format == EXCEL:
        return
    try:
        datetime.strptime("", date_format)
    except re.error:
        raise Failure(f"the date format {date_format!r} names a part twice") from None
    except ValueError as error:
        if "does not match" not in str(error):
            raise Failure(f"the date format {date_format!r} is none: {error}") from None
    if not any(year in date_format for year in ("%Y", "%y", "%G", "%c", "%x")):
        raise Failure(
            f"the date format {date_format!r} has no year; write for example '%d.%m.%Y', or {EXCEL}"
        )


def moment_of(cell: Any, zone: tzinfo | None, date_format: str = "") -> datetime:
    """The moment in a cell, aware, with the source's offset. Invalid names the rule and the way out."""
    if isinstance(cell, datetime):
        found = cell
    elif isinstance(cell, date):
        found = datetime(cell.year, cell.month, cell.day)
    else:
        found = _read(_text_of(cell), date_format)
    return _placed(found, zone)


def _text_of(cell: Any) -> str:
    if isinstance(cell, int | float | Decimal) and not isinstance(cell, bool):
        return str(cell)
    if not isinstance(cell, str):
        raise Invalid("NOT_A_MOMENT", f"a {type(cell).__name__} is no moment")
    return cell.strip()


def _read(text: str, date_format: str) -> datetime:
    if date_format == EXCEL and _NUMBER.fullmatch(text):
        return _of_serial(text)
    if date_format and date_format != EXCEL:
        try:
            return datetime.strptime(text, date_format)
        except ValueError:
            raise Invalid("NOT_A_MOMENT", f"{text!r} is not written as {date_format!r}") from None
    if _NUMBER.fullmatch(text):
        return _of_digits(text)
    if _DAY_OR_MONTH_FIRST.fullmatch(text):
        told = (
            f"{text!r} may be read in two ways; say how it is written, for example --date-format '%d.%m.%Y'"
        )
        raise Invalid("AMBIGUOUS_DATE", told)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return _of_year_first(text)


def _of_year_first(text: str) -> datetime:
    try:
        if found := _YEAR_FIRST.fullmatch(text):
            day = f"{found[1]}-{int(found[2]):02}-{int(found[3]):02}"
            time = found[4] or "00:00"
            return datetime.fromisoformat(f"{day}T{time if time.index(':') == 2 else '0' + time}")
    except ValueError:
        pass
    told = f"{text!r} is no moment that is known here; write 2026-03-05T14:02:11+08:00, or say --date-format"
    raise Invalid("NOT_A_MOMENT", told)


def _of_digits(text: str) -> datetime:
    if found := _COMPACT.fullmatch(text):
        try:
            return datetime(*(int(part) for part in found.groups("0")))  # type: ignore[arg-type]
        except ValueError:
            raise Invalid("NOT_A_MOMENT", f"{text!r} is no day of the calendar") from None
    first, end = _PLAIN_SERIALS
    if not first <= Decimal(text.replace(",", ".")) < end:
        told = f"{text!r} is a number; if it is a serial date of Excel, say --date-format {EXCEL}"
        raise Invalid("NOT_A_MOMENT", told)
    return _of_serial(text)


def _of_serial(text: str) -> datetime:
    """Day 1 is 1900-01-01; day 60 is 1900-02-29, which never was. To the millisecond."""
    number = Decimal(text.replace(",", "."))
    day = int(number)
    if not 1 <= number < _LAST_SERIAL:
        raise Invalid("NOT_A_MOMENT", f"{text} is no serial date of Excel: these are 1 to 2958465")
    if day == _FALSE_LEAP_DAY:
        raise Invalid("NO_SUCH_TIME", f"{text} is 29 February 1900 to Excel, a day that never was")
    begins = datetime(1899, 12, 31) if day < _FALSE_LEAP_DAY else datetime(1899, 12, 30)
    # Cut, not rounded, at the end of a day: the last one has no next.
    time = min(round((number - day) * _MILLISECONDS_OF_DAY), _MILLISECONDS_OF_DAY - 1)
    return begins + timedelta(days=day, milliseconds=time)


def _placed(found: datetime, zone: tzinfo | None) -> datetime:
    """The moment in its zone; a local time that is none there, or comes twice, is refused."""
    if found.tzinfo is not None:
        return _in_calendar(found)
    if zone is None:
        told = "it has no offset from UTC; say where its clock stands, for example --zone Asia/Shanghai"
        raise Invalid("NO_ZONE", f"{found.isoformat(' ')}: {told}")
    early, late = found.replace(tzinfo=zone, fold=0), found.replace(tzinfo=zone, fold=1)
    if early.utcoffset() == late.utcoffset():
        return _in_calendar(early)
    back = _in_calendar(early).astimezone(UTC).astimezone(zone).replace(tzinfo=None)
    if back != found:
        raise Invalid(
            "NO_SUCH_TIME", f"{found.isoformat(' ')} was left out when the clocks of {zone} changed"
        )
    told = f"{found.isoformat(' ')} came twice when the clocks of {zone} changed; give it with its offset"
    raise Invalid("AMBIGUOUS_TIME", told)


def _in_calendar(found: datetime) -> datetime:
    try:
        found.astimezone(UTC)
    except (OverflowError, ValueError):
        raise Invalid("NOT_A_MOMENT", f"{found.isoformat(' ')} is outside the calendar") from None
    return found


def message_of(at: datetime) -> common.Moment:
    """The moment as the contract has it."""
    return common.Moment(at=stamp_of(at), offset_minutes=round(at.utcoffset().total_seconds() / 60))  # type: ignore[union-attr]


def stamp_of(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at.astimezone(UTC))
    return stamp
