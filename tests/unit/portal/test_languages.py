"""Which language a reader gets, and how numbers and moments are written in it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.portal.languages import CHINESE, ENGLISH, Language, chosen

AT = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        ("", "", CHINESE),
        ("", "zh-CN,zh;q=0.9,en;q=0.8", CHINESE),
        ("", "en-GB,en;q=0.9", ENGLISH),
        ("", "fr-FR,fr;q=0.9,en;q=0.5", ENGLISH),
        ("", "fr-FR,zh-TW;q=0.7,en;q=0.5", CHINESE),
        ("", "ar", ENGLISH),
        ("", "*", CHINESE),
        ("", "en;q=0", ENGLISH),
        ("en", "zh-CN", ENGLISH),
        ("zh", "en", CHINESE),
        ("xx", "en", ENGLISH),
        ("", ";;;q=,,=", CHINESE),
        ("", "zh;q=nan-of-it,en", ENGLISH),
        ("", "zh;q=nan,en;q=-1", CHINESE),
        ("", "fr;q=2,zh;q=0.1,en;q=0.2", ENGLISH),
        ("", "x" * 5_000, CHINESE),
        ("", "<script>,\u2603,en_GB", CHINESE),
        ("", "x-klingon", ENGLISH),
    ],
)
def test_a_reader_gets_what_was_picked_or_what_the_browser_accepts(
    cookie: str, accepted: str, language: str
) -> None:
    assert chosen(cookie, accepted) == language


def test_a_moment_is_told_in_the_readers_zone_and_way() -> None:
    assert Language(CHINESE, "Asia/Shanghai").moment(AT) == "2026年3月2日 07:30:00"
    assert "Mar 1, 2026" in Language(ENGLISH).moment(AT)
    assert Language(ENGLISH).moment(Timestamp()) == ""


def test_numbers_keep_their_significant_digits() -> None:
    assert Language(ENGLISH).number(1234567.0) == "1,230,000"
    assert Language(ENGLISH).number(0.00123456) == "0.00123"
    assert Language(CHINESE).number(float("nan")) == "–"
    assert Language(ENGLISH).percent(0.1234) == "12.3%"
    assert Language(CHINESE).count(10_000) == "10,000"


def test_a_sentence_takes_its_values_in_both_languages() -> None:
    assert Language(ENGLISH).say("Run %(run)s", run="7") == "Run 7"
    assert Language(CHINESE).say("Run %(run)s", run="7") == "运行 7"
