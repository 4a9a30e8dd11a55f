"""A platform that judges, and a folder with a user's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.feed.support import Platform
from tests.unit.cli.support import Bench


@pytest.fixture
def platform(bench: Bench, tmp_path: Path) -> Platform:
    return Platform(bench, tmp_path / "keys")
