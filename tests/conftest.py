"""What every test may ask for."""

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.suites")
pytest_plugins = ["services.kit.testing.fixtures", "tests.platforms"]

# How fast a machine is must not decide a test.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
