"""What every test may ask for."""

import pytest
from hypothesis import settings

from services.kit.testing.engines import KafkaEngine

pytest.register_assert_rewrite("tests.suites")
pytest_plugins = ["services.kit.testing.fixtures", "tests.platforms"]

# How fast a machine is must not decide a test.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")

# A broker of a test lives for seconds: compiled lightly it starts with half the processor time.
KafkaEngine.jvm_options += ("-XX:TieredStopAtLevel=1",)
