"""Moments as tables write them: what is sure is read, what is not is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.cli.feed.moments import check_format, message_of, moment_of, zone_of
from services.cli.session import Failure
from services.kit.errors import Invalid

SHANGHAI = zone_of("Asia/Shanghai")


def read(cell: Any, zone: str = "Asia/Shanghai", date_format: str = "") -> str:
    return moment_of(cell, zone_of(zone), date_format).isoformat()


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("2026-03-05T14:02:11+08:00", "2026-03-05T14:02:11+08:00"),
        ("2026-03-05T06:02:11Z", "2026-03-05T06:02:11+00:00"),
        ("2026-03-05T14:02:11.250-05:30", "2026-03-05T14:02:11.250000-05:30"),
        ("2026-03-05 14:02", "2026-03-05T14:02:00+08:00"),
        ("2026/3/5 14:02", "2026-03-05T14:02:00+08:00"),
        ("2026/3/5 9:02:01", "2026-03-05T09:02:01+08:00"),
        ("2026.03.05 14:02", "2026-03-05T14:02:00+08:00"),
        ("2026年3月5日", "2026-03-05T00:00:00+08:00"),
        ("2026年3月5日 14:02", "2026-03-05T14:02:00+08:00"),
        ("2026-3-5", "2026-03-05T00:00:00+08:00"),
        ("20260305", "2026-03-05T00:00:00+08:00"),
        ("20260305140211", "2026-03-05T14:02:11+08:00"),
        (" 2026-03-05 ", "2026-03-05T00:00:00+08:00"),
        (date(2026, 3, 5), "2026-03-05T00:00:00+08:00"),
        (datetime(2026, 3, 5, 14, 2), "2026-03-05T14:02:00+08:00"),
        (datetime(2026, 3, 5, 6, 2, tzinfo=UTC), "2026-03-05T06:02:00+00:00"),
    ],
)
def test_what_is_sure_is_read(cell: Any, moment: str) -> None:
    assert read(cell) == moment


@pytest.mark.parametrize(
    ("serial", "day"),
    [
        # ECMA-376 part 1, section 18.17.4.1 (1900 date base): first and last day, the days around the
        # one that never was; then what every spreadsheet shows for the first days of 1970, 2000 and 2020.
        ("1", "1900-01-01"),
        ("59", "1900-02-28"),
        ("61", "1900-03-01"),
        ("25569", "1970-01-01"),
        ("36526", "2000-01-01"),
        ("43831", "2020-01-01"),
        ("2958465", "9999-12-31"),
    ],
)
def test_excels_serial_dates(serial: str, day: str) -> None:
    assert read(serial, "UTC", "excel") == f"{day}T00:00:00+00:00"


def test_serial_dates_of_our_time_need_no_word_and_are_read_to_the_millisecond() -> None:
    """46086.5847222222 is what Excel keeps of 2026-03-05 14:02 (46086 + 842 / 1440)."""
    for cell in ("46086.5847222222", "46086,5847222222", 46086 + 842 / 1440):
        assert read(cell) == "2026-03-05T14:02:00+08:00"
    assert read("2958465.9999999999", "UTC", "excel") == "9999-12-31T23:59:59.999000+00:00"
    assert read(46086) == "2026-03-05T00:00:00+08:00"
    assert read("46086.25", date_format="excel") == "2026-03-05T06:00:00+08:00"


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        ("5.3.2026", "AMBIGUOUS_DATE"),
        ("25.3.2026", "AMBIGUOUS_DATE"),
        ("3/5/2026 14:02", "AMBIGUOUS_DATE"),
        ("05-03-26", "AMBIGUOUS_DATE"),
        ("tomorrow", "NOT_A_MOMENT"),
        ("2026-02-30", "NOT_A_MOMENT"),
        ("2026/13/5", "NOT_A_MOMENT"),
        ("20261305", "NOT_A_MOMENT"),
        ("17", "NOT_A_MOMENT"),
        ("1772690531", "NOT_A_MOMENT"),
        ("-5", "NOT_A_MOMENT"),
        ("0001-01-01", "NOT_A_MOMENT"),
        ("２０２６-０３-０５", "NOT_A_MOMENT"),
        (True, "NOT_A_MOMENT"),
        ([1], "NOT_A_MOMENT"),
    ],
)
def test_what_is_not_sure_is_refused(cell: Any, rule: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(cell)
    assert refused.value.reason == rule


def test_the_day_that_only_excel_knows_is_refused() -> None:
    for cell in ("60", "60.5"):
        with pytest.raises(Invalid, match="29 February 1900"):
            read(cell, "UTC", "excel")


def test_a_date_format_settles_it() -> None:
    assert read("5.3.2026", date_format="%d.%m.%Y") == "2026-03-05T00:00:00+08:00"
    assert read("5/3/26 2:02 PM", date_format="%m/%d/%y %I:%M %p") == "2026-05-03T14:02:00+08:00"
    assert read("5.3.2026 14:02 +0100", date_format="%d.%m.%Y %H:%M %z") == "2026-03-05T14:02:00+01:00"
    with pytest.raises(Invalid, match="not written as"):
        read("2026-03-05", date_format="%d.%m.%Y")


@pytest.mark.parametrize(
    ("date_format", "told"),
    [
        ("%d.%m", "has no year"),
        ("dd.mm.yyyy", "has no year"),
        ("%Q.%Y", "is none"),
        ("%Y%", "is none"),
        ("%Y %Y", "names a part twice"),
    ],
)
def test_a_date_format_that_is_none_is_refused_before_a_row_is_read(date_format: str, told: str) -> None:
    with pytest.raises(Failure, match=told):
        check_format(date_format)


def test_a_time_without_offset_needs_a_zone() -> None:
    with pytest.raises(Invalid, match="--zone Asia/Shanghai"):
        read("2026-03-05 14:02", zone="")
    assert read("2026-03-05 14:02", zone="+05:30") == "2026-03-05T14:02:00+05:30"
    assert read("2026-03-05 14:02", zone="-0330") == "2026-03-05T14:02:00-03:30"
    for name in ("Mars/Olympus", "../../etc/passwd", "CST+8x", "America", "+99:00"):
        with pytest.raises(Failure, match="is no time zone"):
            zone_of(name)


def test_when_clocks_change_a_local_time_is_refused() -> None:
    """IANA time zone database: Berlin 2026-03-29 and 2026-10-25, Shanghai 1986-05-04 (from 2:00 to 3:00)."""
    with pytest.raises(Invalid, match="left out") as refused:
        read("2026-03-29 02:30", "Europe/Berlin")
    assert refused.value.reason == "NO_SUCH_TIME"
    with pytest.raises(Invalid, match="came twice") as refused:
        read("2026-10-25 02:30", "Europe/Berlin")
    assert refused.value.reason == "AMBIGUOUS_TIME"
    assert read("2026-10-25T02:30+01:00", "Europe/Berlin") == "2026-10-25T02:30:00+01:00"
    with pytest.raises(Invalid, match="left out"):
        read("1986-05-04 02:30")
    assert read("2026-07-01 12:00", "Europe/Berlin").endswith("+02:00")


def test_the_message_keeps_the_offset_of_the_source() -> None:
    made = message_of(datetime(2026, 3, 5, 14, 2, tzinfo=ZoneInfo("Asia/Shanghai")))
    assert made.at.ToDatetime() == datetime(2026, 3, 5, 6, 2)
    assert made.offset_minutes == 480
