"""Every rendered resource is one that Kubernetes takes; an unknown kind fails, and does not warn."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from deploy.charts.conform import OPERATORS, VERSIONS
from deploy.charts.render import UMBRELLA, Document
from tests.charts import kubernetes
from tests.charts.resources import Resources


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_is_valid(every: list[Document], version: str) -> None:
    for document in every:
        if (document["apiVersion"], document["kind"]) in OPERATORS:
            continue
        kubernetes.check(document, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelt_key_and_an_unknown_kind_would_be_found(version: str) -> None:
    account: dict[str, Any] = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}}
    kubernetes.check(account, version)
    with pytest.raises(kubernetes.Unfit, match="automountServiceAcountToken"):
        kubernetes.check({**account, "automountServiceAcountToken": False}, version)
    with pytest.raises(kubernetes.Unfit, match="knows no Kafka"):
        kubernetes.check({**account, "kind": "Kafka"}, version)


def test_the_oldest_version_is_the_one_that_the_chart_states() -> None:
    chart = yaml.safe_load((UMBRELLA / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={VERSIONS[0]}-0"


def test_names_are_unique_and_fit(every: list[Document]) -> None:
    found = [(d["kind"], d["metadata"]["name"]) for d in every]
    assert len(found) == len(set(found))
    assert all(len(name) <= 52 for kind, name in found if kind in ("StatefulSet", "Deployment", "Job"))


def test_two_releases_cannot_share_a_namespace(platform: Resources) -> None:
    """A resource of a fixed name: the second release meets the first one's."""
    assert "pharmaloop-installation" in platform.names("ConfigMap")
