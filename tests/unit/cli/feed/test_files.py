"""Files as people have them: every encoding, every delimiter, every way to be broken."""

from __future__ import annotations

import codecs
import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.feed.files import open_table
from services.cli.feed.table import Row
from services.cli.session import Failure

TEXT = "批号,时间\nG-0041,2026年3月5日\nG-0042,晾干\n"


def write(path: Path, raw: bytes | str) -> Path:
    path.write_bytes(raw.encode() if isinstance(raw, str) else raw)
    return path


def rows(path: Path, **told: str) -> list[Row]:
    return list(open_table(path, **told).rows())


@pytest.mark.parametrize(
    "raw",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("gbk"),
        TEXT.encode("gb18030"),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
    ids=["utf-8", "bom", "gbk", "gb18030", "utf-16-le", "utf-16-be"],
)
def test_the_encoding_is_found(tmp_path: Path, raw: bytes) -> None:
    table = open_table(write(tmp_path / "a.csv", raw))
    assert table.headers == ("批号", "时间")
    assert [list(row.cells) for row in table.rows()] == [["G-0041", "2026年3月5日"], ["G-0042", "晾干"]]


def test_characters_beyond_gbk_are_read(tmp_path: Path) -> None:
    """U+20087 has four bytes in GB 18030 and none in GBK; the Chinese around it decides."""
    text = "批号,生产日期,备注说明\nG-1,二月初三,操作正常𠂇\n"
    assert rows(write(tmp_path / "a.csv", text.encode("gb18030")))[0].cells[2] == "操作正常𠂇"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_an_encoding_that_cannot_be_told_is_asked_for(tmp_path: Path, encoding: str) -> None:
    """'°C' in Latin-1 is also a rare character of GBK: nobody may guess it."""
    path = write(tmp_path / "a.csv", "Temp °C;Größe\n1;2\n".encode(encoding))
    with pytest.raises(Failure, match="say how it is written, for example --encoding cp1252"):
        open_table(path)
    assert open_table(path, encoding=encoding).headers == ("Temp °C", "Größe")
    with pytest.raises(Failure, match="'klingon' is no text encoding"):
        open_table(path, encoding="klingon")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    cells = [["lot", "note", "temp"], ["G-1", 'a,b;c|d\t"e"', "1"], ["G-2", "", "2"]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(cells)
    table = open_table(write(tmp_path / "a.csv", text.getvalue()))
    assert [table.headers, *(tuple(row.cells) for row in table.rows())] == [tuple(line) for line in cells]


def test_a_semicolon_file_with_decimal_commas_is_no_comma_file(tmp_path: Path) -> None:
    assert open_table(write(tmp_path / "a.csv", "lot;x;y\nG-1;1,5;2,5\n")).headers == ("lot", "x", "y")


def test_a_delimiter_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,b;c\n1,2;3\n")
    with pytest.raises(Failure, match="comma or semicolon: say it with --delimiter"):
        open_table(path)
    assert open_table(path, delimiter=";").headers == ("a,b", "c")


def test_excels_first_line_is_obeyed(tmp_path: Path) -> None:
    found = rows(write(tmp_path / "a.csv", "\ufeffsep=;\r\na;b,c\r\n1;2\r\n"))
    assert [(row.number, list(row.cells)) for row in found] == [(3, ["1", "2"])]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_like(tmp_path: Path, end: str) -> None:
    found = rows(write(tmp_path / "a.csv", end.join(["a,b", "1,2", "3,4"])))
    assert [(row.number, list(row.cells)) for row in found] == [(2, ["1", "2"]), (3, ["3", "4"])]


def test_a_row_has_the_number_of_its_first_line(tmp_path: Path) -> None:
    text = 'a,b\n1,2\n\n"two\nlines",4\n,\n5,6\n'
    assert [(row.number, list(row.cells)) for row in rows(write(tmp_path / "a.csv", text))] == [
        (2, ["1", "2"]),
        (4, ["two\nlines", "4"]),
        (7, ["5", "6"]),
    ]


# -- what is broken ---------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "is empty"),
        (b"lot,at\n", "has a header and no rows"),
        (b"lot,at\n\n,\n", "has a header and no rows"),
        (b" , \n1,2\n", "must name the columns"),
        (b"lot,at,lot\n1,2,3\n", "two columns are called 'lot'"),
        (b'"lot,at\n1,2\n', "the header cannot be read"),
        (bytes(range(256)) * 64, "binary data"),
        (b"\0l\0o\0t\0,\0a\0t\0\n" * 9, "say --encoding utf-16-le"),
        (b"PK\x03\x04" + b"\0" * 100, "save the sheet as 'CSV UTF-8'"),
        (b"\xd0\xcf\x11\xe0" + b"\0" * 100, "old Excel workbook"),
        (b"\x1f\x8b\x08" + b"\0" * 100, "unpack it first"),
        (b"PAR1" + b"\0" * 100, "cannot be read as Parquet"),
        (b"PAR1", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_a_sentence(tmp_path: Path, raw: bytes, told: str) -> None:
    with pytest.raises(Failure, match=told):
        open_table(write(tmp_path / "a.csv", raw))


def test_a_broken_row_is_a_fault_and_the_next_rows_are_read(tmp_path: Path) -> None:
    lines = [
        b"a,b",
        b"1,2",
        b"1",
        b"1,2,3",
        b"1,\x002",
        b'"x"y,2',
        b"1," + b"x" * 10_000_000,
        b"1," + b"y" * 200_000,
        b"7,8",
    ]
    found = rows(write(tmp_path / "a.csv", b"\n".join(lines)))
    assert [(row.number, row.fault.rule if row.fault else "") for row in found] == [
        (2, ""),
        (3, "RAGGED"),
        (4, "RAGGED"),
        (5, "NUL_BYTE"),
        (6, "BAD_QUOTES"),
        (7, "TOO_LONG"),
        (8, "TOO_LONG"),
        (9, ""),
    ]
    assert found[1].cells == ["1"]


def test_a_quote_that_is_left_open_says_which_lines_it_took(tmp_path: Path) -> None:
    found = rows(write(tmp_path / "a.csv", 'a,b\n1,2\n"3,4\n5,6\n'))
    fault = found[1].fault
    assert fault is not None
    assert (found[1].number, fault.rule) == (3, "BAD_QUOTES")
    assert "lines 3 to 4" in fault.message


def test_bytes_that_the_encoding_does_not_know_stay_visible(tmp_path: Path) -> None:
    """A reader of the cell can refuse it: it holds U+FFFD."""
    path = write(tmp_path / "a.csv", b"lot,x\nG-\xff1,1\nG-2,2\n")
    assert [row.cells[0] for row in rows(path, encoding="utf-8")] == ["G-\ufffd1", "G-2"]


CELL = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0\ufeff"), max_size=12
) | st.from_regex(r'[\n,;"|\t\r]{0,4}x', fullmatch=True)


@given(
    st.lists(st.lists(CELL, min_size=2, max_size=2).filter(any), min_size=1, max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]),
)
def test_what_was_written_as_csv_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]], delimiter: str, encoding: str
) -> None:
    """Against Python's own writer."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([["lot", "note"], *cells])
    path = write(tmp_path_factory.mktemp("csv") / "a.csv", text.getvalue().encode(encoding))
    table = open_table(path, encoding=encoding, delimiter=delimiter)
    assert [list(row.cells) for row in table.rows()] == cells


# -- Parquet ----------------------------------------------------------------


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_is_known_by_its_bytes_and_keeps_its_types(tmp_path: Path) -> None:
    at = datetime(2026, 3, 5, 6, 2, tzinfo=UTC)
    path = parquet(
        tmp_path / "a.data", lot=["G-1", None], at=pa.array([at, at], pa.timestamp("ns", "UTC")), x=[1.5, 2]
    )
    table = open_table(path)
    assert (table.headers, table.size) == (("lot", "at", "x"), 2)
    assert [(row.number, *row.cells) for row in table.rows()] == [(1, "G-1", at, 1.5), (2, None, at, 2.0)]


def test_more_rows_than_one_batch_are_numbered_through(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", x=list(range(5000)))
    assert [(row.number, row.cells[0]) for row in rows(path)] == [(n + 1, n) for n in range(5000)]


def test_a_cell_too_large_is_a_fault_in_parquet_too(tmp_path: Path) -> None:
    found = rows(parquet(tmp_path / "a.parquet", x=["a", "b" * 10_000_000, "c"]))
    assert [row.fault.rule if row.fault else "" for row in found] == ["", "TOO_LONG", ""]


def test_a_value_that_no_cell_can_hold_is_marked_and_its_neighbours_are_read(tmp_path: Path) -> None:
    """Bytes that are no text; moments beyond the calendar."""
    text = pa.array([b"a", b"\xff", b"c"]).cast(pa.binary()).view(pa.string())
    far = pa.array([0, 2**40, 0], pa.timestamp("s"))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": text, "at": far}), path)
    found = [row.cells for row in rows(path)]
    assert [cells[0] for cells in found] == ["a", "\ufffd", "c"]
    assert [cells[1] for cells in found] == [datetime(1970, 1, 1), "\ufffd", datetime(1970, 1, 1)]


def test_a_parquet_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "a.parquet", x=list(range(1000))).read_bytes()
    for kept in (5, len(whole) // 2, len(whole) - 1):
        with pytest.raises(Failure, match=r"cannot be read as Parquet.*is the file whole"):
            open_table(write(tmp_path / "cut.parquet", whole[:kept]))


def test_a_parquet_file_that_is_damaged_inside_says_where_it_stops(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"x": [f"{n * 7919 % 10_007}" for n in range(50_000)]}), path, row_group_size=10_000
    )
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 3000] = b"\xff" * 3000
    with pytest.raises(Failure, match=r"after row \d+"):
        rows(write(path, bytes(raw)))
