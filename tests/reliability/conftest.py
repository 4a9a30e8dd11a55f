"""Two worlds for the tests that break one of them, started once and shared as long as they agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.platforms import held
from tests.reliability.stand import Stand


@pytest.fixture(scope="session")
def stands(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Stand]:
    """Gives the two worlds: those of the test before, or new ones after a test that spoilt them."""
    made: list[Stand] = []

    def stop() -> None:
        while made:
            made.pop().stop()

    def ready() -> Stand:
        if made and not made[-1].spoilt:
            return made[-1]
        stop()
        made.append(Stand(tmp_path_factory.mktemp("stand")))
        made[-1].start()
        return made[-1]

    held(request.session).callback(stop)
    return ready


@pytest.fixture
def stand(stands: Callable[[], Stand]) -> Stand:
    return stands()
