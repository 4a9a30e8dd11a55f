"""What every test may ask for."""

import pytest

pytest.register_assert_rewrite("tests.suites")
pytest_plugins = ["services.kit.testing.fixtures"]
