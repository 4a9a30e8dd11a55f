"""One cluster per Kubernetes version for all tests here, and one namespace per test."""

import itertools
from collections.abc import Iterator

import pytest

from deploy.cluster import build, crds
from deploy.cluster.lab import Lab
from tests.charts.e2e.versions import asked_for

# A namespace takes a while to go: the next test's has another name.
NUMBERS = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.cluster)
            # The first test of a version starts its cluster, on a machine that may be busy.
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session", params=asked_for())
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab(request.param, operators=crds.OPERATORS) as lab:
        print(f"Kubernetes {build.version_of(request.param).kubernetes} was ready after {lab.seconds:.1f} s")
        yield lab


@pytest.fixture
def namespace(lab: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own that enforces pod security `restricted`; deleted with all it holds."""
    test = request.node.originalname.removeprefix("test_").replace("_", "-")
    name = lab.namespace(f"{test[:40].rstrip('-')}-{next(NUMBERS)}")
    yield name
    lab.kubectl("delete", "namespace", name, "--wait=false")
