"""What the tests of research may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.rnd.memory import Research


@pytest.fixture
def research(tmp_path: Path) -> Research:
    """The service, in memory."""
    return Research(tmp_path / "keys")
