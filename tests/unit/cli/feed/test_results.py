"""Laboratory results from a user's files: no result is lost, and none gets limits that are not its own."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pharmaloop.production.v1 import events_pb2 as events
from tests.unit.cli.feed.support import Platform

LOT = "maker-1/gtin/06901234500547/A-0001"
HEAD = "lot,test,value,unit,low,high,at,record\n"


def fed(platform: Platform, tmp_path: Path, text: str, *more: str) -> tuple[int, list[tuple[str, str]]]:
    """Feed a file; the exit status, and column and rule of each reject."""
    file = tmp_path / "results.csv"
    file.write_text(text, encoding="utf-8")
    result = platform.bench.run("feed", "results", str(file), "--zone", "UTC", "--json", *more)
    (told,) = json.loads(result.stdout)["files"]
    return result.exit_code, [(one["field"], one["rule"]) for one in told["first_rejects"]]


def test_the_rows_of_one_record_are_all_results(platform: Platform, tmp_path: Path) -> None:
    """Two tests of a sample, and three measurements of one test at once: the last is out of specification."""
    rows = [
        f"{LOT},assay,99.1,%,95,105,2026-03-10,QC-1\n",
        f"{LOT},water,1.2,%,,2,2026-03-10,QC-1\n",
        f"{LOT},assay,99.3,%,95,105,2026-03-10,QC-1\n",
        f"{LOT},assay,94.0,%,95,105,2026-03-10,QC-1\n",
    ]
    assert fed(platform, tmp_path, HEAD + "".join(rows)) == (0, [])
    found = platform.of(events.TestResultRecorded)
    assert [(fact.test, fact.value) for fact in found] == [
        ("assay", 99.1),
        ("water", 1.2),
        ("assay", 99.3),
        ("assay", 94.0),
    ]
    assert (found[1].HasField("low"), found[1].high) == (False, 2)
    assert all(fact.record.startswith("QC-1#") for fact in found)


def test_the_same_row_in_another_file_counts_once(platform: Platform, tmp_path: Path) -> None:
    row = f"{LOT},assay,99.1,%,95,105,2026-03-10,\n"
    assert fed(platform, tmp_path, HEAD + row)[0] == 0
    assert fed(platform, tmp_path, HEAD + f"{LOT},assay,98,%,95,105,2026-03-11,\n" + row)[0] == 0
    assert [fact.value for fact in platform.of(events.TestResultRecorded)] == [99.1, 98]


def test_limits_are_converted_with_their_result(platform: Platform, tmp_path: Path) -> None:
    """The lower limit has the unit of the result, the upper one that of its own header."""
    text = f"lot,test,value (mg),low,high (g),at\n{LOT},weight,251,240,0.26,2026-03-10\n"
    mapping = tmp_path / "map.yaml"
    mapping.write_text("units: {value: g}\n")
    assert fed(platform, tmp_path, text, "-m", str(mapping)) == (0, [])
    (fact,) = platform.of(events.TestResultRecorded)
    assert (fact.unit, fact.high) == ("g", 0.26)
    assert (fact.value, fact.low) == pytest.approx((0.251, 0.240))


def test_limits_are_left_out_only_on_purpose(platform: Platform, tmp_path: Path) -> None:
    """A result whose limits were overlooked would never be out of specification."""
    file = tmp_path / "results.csv"
    file.write_text(f"lot,test,value,unit,at,Grenze\n{LOT},assay,80,%,2026-03-10Z,95\n")
    result = platform.bench.run("feed", "results", str(file))
    assert result.exit_code == 2
    assert "no column was found for low, high" in result.stderr
    mapping = tmp_path / "map.yaml"
    mapping.write_text("columns: {low: Grenze, high: }\nzone: UTC\n")
    assert platform.bench.run("feed", "results", str(file), "-m", str(mapping)).exit_code == 1  # 2026-03-10Z
    file.write_text(file.read_text().replace("10Z", "10"))
    assert platform.bench.run("feed", "results", str(file), "-m", str(mapping)).exit_code == 0
    (fact,) = platform.of(events.TestResultRecorded)
    assert (fact.low, fact.HasField("high")) == (95, False)


@pytest.mark.parametrize(
    ("row", "reject"),
    [
        ("assay,< 0.1,%,95,105,2026-03-10,", ("value", "NOT_A_NUMBER")),
        ("assay,complies,%,95,105,2026-03-10,", ("value", "NOT_A_NUMBER")),
        ("assay,,%,95,105,2026-03-10,", ("value", "REQUIRED")),
        ("assay,99,,95,105,2026-03-10,", ("unit", "REQUIRED")),
        ("assay,99,% w/w,95,105,2026-03-10,", ("unit", "BAD_UNIT")),
        ("assay,99,%,95,x,2026-03-10,", ("high", "NOT_A_NUMBER")),
        ("assay,99,%,105,95,2026-03-10,", ("low", "OUT_OF_RANGE")),
        (",99,%,95,105,2026-03-10,", ("test", "REQUIRED")),
        ("assay,99,mg/g,950,1050,2026-03-10,", ("unit", "WRONG_UNIT")),
    ],
)
def test_a_bad_row_is_rejected_and_the_others_are_taken(
    platform: Platform, tmp_path: Path, row: str, reject: tuple[str, str]
) -> None:
    good = f"{LOT},assay,99.1,%,95,105,2026-03-10,\n"
    assert fed(platform, tmp_path, f"{HEAD}{good}{LOT},{row}\n") == (1, [reject])
    assert len(platform.of(events.TestResultRecorded)) == 1
    assert row in (tmp_path / "results.rejects.csv").read_text(encoding="utf-8")


def test_parquet_is_fed_like_csv(platform: Platform, tmp_path: Path) -> None:
    columns = {
        "lot": [LOT, LOT],
        "test": ["rotation", "rotation"],
        "value": [-12.5, float("nan")],
        "unit": ["deg", "deg"],
        "low": pa.array([None, -15.0]),
        "high": [-10.0, -10.0],
        "at": pa.array([1_772_690_520_000_000] * 2, pa.timestamp("us", "UTC")),
    }
    file = tmp_path / "results.parquet"
    pq.write_table(pa.table(columns), file)
    result = platform.bench.run("feed", "results", str(file), "--json")
    assert json.loads(result.stdout)["files"][0]["rejected"] == {"NOT_FINITE": 1}
    (fact,) = platform.of(events.TestResultRecorded)
    assert (fact.value, fact.HasField("low"), fact.high) == (-12.5, False, -10)


def test_a_feed_that_broke_off_goes_on_under_the_same_ids(platform: Platform, tmp_path: Path) -> None:
    """500 rows were answered and 500 in doubt: those are sent again, and have one effect."""
    rows = [f"{LOT},assay,{90 + n / 100:g},%,,105,2026-03-10,QC-{n}\n" for n in range(1000)]
    platform.failing = 1, ConnectionError("gone")
    file = tmp_path / "results.csv"
    file.write_text(HEAD + "".join(rows))
    command = ("feed", "results", str(file), "--zone", "UTC")
    assert platform.bench.run(*command).exit_code == 1
    platform.failing = None
    assert platform.bench.run(*command).exit_code == 0
    first, broken, again = platform.calls("RecordTestResults")
    assert broken == again != first
    assert len(platform.of(events.TestResultRecorded)) == 1000
