"""What every test may ask for."""

from contextlib import ExitStack

import pytest
from hypothesis import settings

from tests.platforms import HELD, SHARED, shared_by

pytest.register_assert_rewrite("tests.suites")
pytest_plugins = ["services.kit.testing.fixtures", "tests.platforms"]

# How fast a machine is must not decide a test.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who shares a platform runs in one process, where tests run in several: the longest first, then
    file by file."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(shared_by(item) or item.path.name))
    items.sort(key=lambda item: [*SHARED, ""].index(shared_by(item)))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What nobody shares any more stops now, and leaves the machine to the others."""
    if nextitem is None or shared_by(nextitem) != shared_by(item):
        item.session.stash.get(HELD, ExitStack()).close()
