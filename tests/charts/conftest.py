"""The charts, rendered once for all tests that look at them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from deploy.charts import golden
from deploy.charts.render import Document, documents
from tests.charts.resources import Resources


@cache
def _rendered(name: str) -> str:
    return golden.rendered(name)


@pytest.fixture(scope="session")
def text_of() -> Callable[[str], str]:
    """A variant's resources as Helm gives them."""
    return _rendered


@pytest.fixture(params=golden.names())
def every(request: pytest.FixtureRequest) -> list[Document]:
    """The resources of each variant, the backbone's among them."""
    return documents(_rendered(request.param))


@pytest.fixture(params=[name for name in golden.names() if name != golden.KAFKA])
def platform(request: pytest.FixtureRequest) -> Resources:
    """The resources of each variant of the platform."""
    return Resources(documents(_rendered(request.param)))


@pytest.fixture(scope="session")
def production() -> Resources:
    return Resources(documents(_rendered("production")))


@pytest.fixture(scope="session")
def three_sites() -> Resources:
    return Resources(documents(_rendered("three-sites")))


@pytest.fixture(scope="session")
def backbone() -> Resources:
    return Resources(documents(_rendered(golden.KAFKA)))
