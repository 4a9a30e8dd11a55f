"""What the command prints, as it is recorded: on terminals of two widths, and in a pipe."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from tests.unit.cli import golden
from tests.unit.cli.support import Bench

TABLES = [name for name in golden.COMMANDS if "help" not in name and name != "no-such-lot-key"]


@pytest.mark.parametrize("width", golden.WIDTHS)
@pytest.mark.parametrize("name", golden.COMMANDS)
def test_the_output_is_as_recorded(bench: Bench, name: str, width: int) -> None:
    golden.answer_from_file(bench.fake)
    recorded = golden.path_of(name, width).read_text()
    assert golden.output(bench, golden.COMMANDS[name], width) == recorded, "if meant: make docs-cli"


@pytest.mark.parametrize("width", [30, 40, 80, 120, 200])
@pytest.mark.parametrize("name", TABLES)
def test_nothing_is_wider_than_the_terminal_and_nothing_is_cut(bench: Bench, name: str, width: int) -> None:
    golden.answer_from_file(bench.fake)
    shown = golden.output(bench, golden.COMMANDS[name], width)
    if name != "refused":  # an error is a line of its own length
        assert max(map(cell_len, shown.splitlines())) <= width
    assert "…" not in shown


def test_what_somebody_wrote_steers_neither_the_terminal_nor_a_pipe(bench: Bench) -> None:
    golden.answer_from_file(bench.fake)
    for width in ("1", "0"):
        bench.environment |= {"TTY_COMPATIBLE": width, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "xterm"}
        shown = bench.run("deviation", "list").output
        assert "\x1b[31m" not in shown
        assert "[bold]干燥机过热[/bold] <script>alert(1)</script>" in shown


def test_a_pipe_has_no_colours_and_its_cells_are_parted_by_tabs(bench: Bench) -> None:
    golden.answer_from_file(bench.fake)
    bench.environment |= {"TTY_COMPATIBLE": "0", "FORCE_COLOR": ""}
    title, head, *rows = bench.run("run", "list").output.splitlines()
    assert title == "# Loops"
    assert head.split("\t")[:3] == ["run", "loop", "case"]
    assert [row.split("\t")[2] for row in rows] == [golden.LOT, "transfer:set-penicillin/plant-3"]
    assert "\x1b" not in "".join(rows)
