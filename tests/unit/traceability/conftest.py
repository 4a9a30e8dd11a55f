"""One service in memory for each test, alone or with what dossiers are made of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.traceability.dossier_story import Platform, story
from tests.unit.traceability.driver import Service


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture
def platform() -> Iterator[Platform]:
    made = Platform()
    yield made
    made.close()


@pytest.fixture
def played(platform: Platform) -> Platform:
    for one in story():
        platform.tell(*one)
    platform.settle()
    return platform
