"""What the examples say of a file, an option or a state that is broken: the same words in every language.

Nobody listens at the address: what is wrong with a file is found before the first call.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.partners.programs import Program

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
HEAD = "order,lot,site,pseudonym,at,quantity,unit"
ROW = "RX-1,maker-1/item/p/A,hospital-a,P-01-701,2026-03-12T09:30:00+08:00,28,{tablet}"
NOWHERE = ("--to", "127.0.0.1:1")
NAMES = f"the first line names {HEAD}"
_MARKS = "write a mark inside a cell twice, and send the file again"
QUOTES = f"a quoted cell is not closed, or goes on behind its quotation mark; {_MARKS}"
TEXT = "not UTF-8; save the file as UTF-8, and send it again"

#: What is in the file, and what is said of it after its name.
FILES = {
    "latin 1": (f"{HEAD}\n{ROW}\nRX-2,m,a,M\u00fcller,,,\n".encode("latin-1"), f"line 3: {TEXT}"),
    "utf-16": (f"{HEAD}\n{ROW}\n".encode("utf-16"), f"line 1: {TEXT}"),
    "cut letter": (f"{HEAD}\n{ROW}\nRX-\u4e2d".encode()[:-1], f"line 3: {TEXT}"),
    "open quotes": (f'{HEAD}\n{ROW}\nRX-3,"m/i,a\n{ROW}\n'.encode(), f"line 3: {QUOTES}"),
    "behind quotes": (f'{HEAD}\nRX-3,"m/i"x,a,,,,\n{ROW}\n'.encode(), f"line 2: {QUOTES}"),
    "no column": (b"order,lot,site,at,quantity\n", f"line 1: no column pseudonym, unit; {NAMES}"),
    "column twice": (f"{HEAD},lot\n".encode(), f"line 1: column lot twice; {NAMES}, each once"),
    "short row": (
        f'{HEAD}\n"R\nX",m,a,b,c,1,d\n\nRX-2,m\n'.encode(),
        "line 5: 2 cells where the first line has 7; mend the row, and send the file again",
    ),
    "long row": (
        f"{HEAD}\r\n{ROW}\r\n{ROW},x\r\n".encode(),
        "line 3: 8 cells where the first line has 7; mend the row, and send the file again",
    ),
    "empty row": (
        f"{HEAD}\n{ROW}\n\n,, ,,,,\n".encode(),
        "line 4: every cell is empty; remove the row, and send the file again",
    ),
    "empty file": (b"", f"line 1: the file is empty; {NAMES}"),
}


@pytest.mark.parametrize("name", FILES)
async def test_a_broken_file_is_named_with_line_rule_and_remedy(
    program: Program, tmp_path: Path, name: str
) -> None:
    content, told = FILES[name]
    (tmp_path / "rows.csv").write_bytes(content)
    code, out, err = await program.run(tmp_path, "send", "rows.csv", *NOWHERE)
    assert (code, out, err) == (2, "", f"partner: rows.csv, {told}\n")
    assert [one.name for one in tmp_path.iterdir()] == ["rows.csv"]  # nothing was begun


@pytest.mark.parametrize("given", ["0", "-1", "x", "1.5"])
async def test_a_batch_has_a_row_at_least(program: Program, tmp_path: Path, given: str) -> None:
    (tmp_path / "rows.csv").write_text(f"{HEAD}\n{ROW}\n")
    code, out, err = await program.run(tmp_path, "send", "rows.csv", *NOWHERE, "--batch", given)
    assert (code, out) == (2, "")
    assert err == f"partner: --batch {given}: no whole number from 1 on; give one\n"


async def test_a_file_that_is_not_there_is_named(program: Program, tmp_path: Path) -> None:
    code, out, err = await program.run(tmp_path, "send", "none.csv", *NOWHERE)
    assert (code, out) == (2, "")
    assert err == "partner: none.csv: no such file; give the path of a CSV file\n"


async def test_a_position_that_is_none_is_named(program: Program, tmp_path: Path) -> None:
    (tmp_path / "watch.position").write_text("a page of a novel")
    code, out, err = await program.run(tmp_path, "watch", *NOWHERE)
    assert (code, out) == (2, "")
    assert err == "partner: watch.position: no position is stored in it; remove it to begin anew\n"
