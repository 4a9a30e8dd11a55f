"""What a drill takes of a runbook."""

from __future__ import annotations

import pytest

from deploy.drill import books
from deploy.drill.drills import DRILLS, SITE


@pytest.mark.parametrize("name", DRILLS)
def test_the_runbook_of_each_drill_has_what_the_drill_runs(name: str) -> None:
    drill = DRILLS[name](SITE)
    book = books.read(drill.alert)
    assert book.commands["Look first"]
    assert book.commands["Verify"]
    assert book.queries
    for wanted in drill.mend:
        assert any(line.startswith(wanted) for line in book.commands["Mend"]), wanted


def test_a_word_in_capitals_is_replaced_by_each_of_its_values_as_a_shell_takes_it() -> None:
    letters = ["traceability.fold|t|0|7", "traceability.lineage|t|0|7"]
    assert books.filled("do LETTER --reason WHY-NOT", {"LETTER": letters, "WHY": ["x y"]}) == [
        f"do '{letter}' --reason 'x y'-NOT" for letter in letters
    ]
    assert books.filled("do SITE RUN", {"SITE": ["hospital-a"]}) == []
    assert books.filled("do nothing", {}) == ["do nothing"]
