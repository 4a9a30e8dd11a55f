"""Two worlds for the tests that break one of them, started once and shared as long as they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.reliability.stand import Stand


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever needs the two worlds comes last: twenty processes at rest are not quiet."""
    items.sort(key=lambda item: "stand" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def stands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Stand]]:
    """Gives the two worlds: those of the test before, or new ones after a test that spoilt them."""
    held: list[Stand] = []

    def ready() -> Stand:
        if held and not held[-1].spoilt:
            return held[-1]
        while held:
            held.pop().stop()
        held.append(Stand(tmp_path_factory.mktemp("stand")))
        held[-1].start()
        return held[-1]

    yield ready
    for stand in held:
        stand.stop()


@pytest.fixture
def stand(stands: Callable[[], Stand]) -> Stand:
    return stands()
