"""One real Kafka and one real MongoDB per test session, started when the first test asks for one.

Tests share the engines and keep apart by names: every test uses topics, groups
and databases of its own. The data goes to a temporary directory and is gone
when the session ends.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.kit.bus.migrate import migrate
from services.kit.settings import KafkaSettings
from services.kit.testing.engines import KafkaEngine, MongoEngine, free_port, running

#: Their data is thrown away: an engine need not put hundreds of topics in order first.
_GRACE_SECONDS = 1.0


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """The bootstrap address of the session's Kafka."""
    with tempfile.TemporaryDirectory(prefix="pharmaloop-kafka-") as folder:
        engine = KafkaEngine(Path(folder, "data"), free_port(), free_port())
        with running(engine, Path(folder, "kafka.log"), grace=_GRACE_SECONDS):
            yield engine.bootstrap


@pytest.fixture(scope="session")
def mongo() -> Iterator[str]:
    """The connection string of the session's MongoDB, a replica set of one."""
    with tempfile.TemporaryDirectory(prefix="pharmaloop-mongod-") as folder:
        engine = MongoEngine(Path(folder, "data"), free_port())
        with running(engine, Path(folder, "mongod.log"), grace=_GRACE_SECONDS):
            yield engine.uri


@pytest.fixture(scope="session")
def backbone(kafka: str) -> str:
    """The bootstrap address of the session's Kafka, with every topic of the contract."""
    migrate(KafkaSettings(bootstrap_servers=kafka), ("hospital-a",))
    return kafka
