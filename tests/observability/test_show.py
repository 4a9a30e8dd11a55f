"""A dashboard in the terminal says what its panels would show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.grafana import show
from deploy.grafana.asked import selectors
from deploy.grafana.boards import BOARDS
from deploy.grafana.show import Value, lines

LOOPS = BOARDS[0]


def told(values: dict[str, list[Value]], *, everything: bool = False) -> list[str]:
    """Loops, over answers by a word of the question; what is not named has none."""

    def ask(expr: str) -> list[Value]:
        assert selectors(expr)
        return [value for word, found in values.items() if word in expr for value in found]

    return lines(LOOPS, ask, everything=everything)


def test_a_table_has_a_line_for_each_hospital_and_says_what_to_do() -> None:
    said = told(
        {
            "(1 - up{": [Value({"site": "hospital-a"}, 0), Value({"site": "hospital-b"}, 1)],
            "state='owed'": [Value({"site": "hospital-a"}, 3), Value({"site": "hospital-b"}, 12)],
        }
    )
    at = said.index("Hospital by hospital")
    assert "Runbook: ServiceGone.md" in said[at + 1]
    assert " ".join(said[at + 2].split()) == "hospital-a gone: 0 processes, to be told: 3 patients"
    assert " ".join(said[at + 3].split()) == "hospital-b gone: 1 processes, to be told: 12 patients"


def test_what_is_well_is_one_line() -> None:
    values = {"count(pharmaloop_ready == 0)": [Value({}, 0)]}
    assert "Not ready: 0" in told(values)
    assert "Dead letters: no data" in told(values)
    assert "What fires: nothing fires" in told(values)
    at = (said := told(values, everything=True)).index("Not ready")
    assert said[at + 2].split() == ["not", "ready", "0", "processes"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.25, "0.25 s"), (119, "119 s"), (600, "10 min"), (9000, "2.5 h"), (2e5, "2.31 d")],
)
def test_times_are_told_as_people_tell_them(seconds: float, said: str) -> None:
    found = {"max(pharmaloop_group_lag_seconds)": [Value({}, seconds)]}
    lag = told(found)
    assert lag[lag.index("Oldest event that waits") + 2].strip().endswith(said)


def test_without_anybody_who_watches_it_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PHARMALOOP_STATE_DIR", str(tmp_path))
    assert show.main([]) == 2
    assert "make watch" in capsys.readouterr().err
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "addresses.json").write_text(json.dumps({"prometheus": "http://127.0.0.1:9"}))
    assert show.main(["site"]) == 2
    assert "127.0.0.1:9 does not answer" in capsys.readouterr().err
