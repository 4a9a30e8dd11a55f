"""What the tests of production may ask for."""

from __future__ import annotations

import pytest

from tests.unit.production.memory import Memory


@pytest.fixture
def memory() -> Memory:
    """The service, in memory."""
    return Memory()
