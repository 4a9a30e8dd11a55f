"""A platform whose simulated world has ended, started once for all who only look at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.loops.stack import Stack, running_stack

WORLD_SECONDS = 400
#: With the developer, whose transfers and studies close the other two loops; it ends within minutes.
WORLD = ("--seed", "7", "--size", "small", "--loops", "2", "--speed", "4")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who looks at it comes last, so that nobody else's platform runs beside it."""
    items.sort(key=lambda item: "finished" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything is up, and all that the world does is done."""
    with running_stack(tmp_path_factory.mktemp("finished"), *WORLD) as stack:
        stack.until_world_is_done(WORLD_SECONDS)
        yield stack
