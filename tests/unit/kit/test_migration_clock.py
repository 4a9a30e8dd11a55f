"""A migration changes how fast the platform's time passes only where it is told a speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.kit.bus import migrate
from services.kit.clock import ensure_clock, load_clock

_SPEED = "PHARMALOOP_CLOCK_SPEED"


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The state folder of a platform whose topics are all there."""
    monkeypatch.setenv("PHARMALOOP_STATE_DIR", str(tmp_path))
    monkeypatch.delenv(_SPEED, raising=False)
    monkeypatch.setattr(migrate, "migrate", lambda kafka, sites, claim: [])
    return tmp_path


def test_a_running_clock_stays_as_it_is_without_a_speed(state: Path) -> None:
    running = ensure_clock(state, 1.0)
    kept = (state / "clock.json").read_bytes()
    assert migrate.main() == 0
    assert load_clock(state) == running
    assert (state / "clock.json").read_bytes() == kept


def test_a_speed_that_is_told_is_taken_and_time_does_not_jump(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ensure_clock(state, 1.0).now()
    # The default's value, too, where somebody has said it.
    monkeypatch.setenv(_SPEED, "600")
    assert migrate.main() == 0
    now = load_clock(state)
    assert now.speed == 600
    assert now.now() >= before


def test_a_platform_without_a_clock_gets_one(state: Path) -> None:
    assert migrate.main() == 0
    assert load_clock(state).speed == 600


def test_a_clock_that_cannot_be_read_is_told_and_left(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / "clock.json").write_text("{")
    assert migrate.main() == 1
    assert "bring it back from a backup" in capsys.readouterr().err
    assert (state / "clock.json").read_text() == "{"
