"""What several integration tests look at."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What every process of the platform writes to its log."""
    lines, before = io.StringIO(), structlog.get_config()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(lines))
    handler = logging.StreamHandler(lines)
    handler.setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)
    structlog.configure(**before)
