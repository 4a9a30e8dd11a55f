"""The judge of policies: what it waives has a reason, and it does not take silence for praise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from deploy.charts import conform, golden
from deploy.charts.policy import WAIVERS, Finding, _parse
from deploy.charts.render import variants


def test_a_waiver_covers_what_it_says_and_no_more() -> None:
    assert Finding("CKV_K8S_8", "liveness", "Pod", "pharmaloop-test").waived
    assert not Finding("CKV_K8S_8", "liveness", "StatefulSet", "pharmaloop-production").waived
    assert not Finding("CKV_K8S_16", "privileged", "Pod", "pharmaloop-test").waived


def test_every_waiver_has_a_reason() -> None:
    assert all(len(waiver.reason.split()) > 5 for waiver in WAIVERS.values())


def test_a_report_about_nothing_is_no_praise() -> None:
    with pytest.raises(RuntimeError, match="checked nothing"):
        _parse([], passed=0)


def test_a_finding_names_kind_and_resource() -> None:
    raw = {"check_id": "CKV_K8S_43", "check_name": "digest", "resource": "StatefulSet.pharma.pharmaloop-rnd"}
    (found,) = _parse([raw], passed=3)
    assert str(found) == "CKV_K8S_43 (digest): StatefulSet pharmaloop-rnd"


def test_kubeconform_is_told_where_the_definitions_are(tmp_path: Path) -> None:
    location = conform.schemas(conform.VERSIONS[-1], tmp_path)
    assert location == f"{tmp_path}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    account = json.loads((tmp_path / "serviceaccount-v1.json").read_text())
    assert account["properties"]["metadata"]["$ref"].startswith(f"file://{tmp_path}/_definitions.json#")


@pytest.mark.parametrize("name", variants())
def test_no_key_stands_twice(name: str) -> None:
    """A parser may take either; Go's refuses it."""
    twice = [line for document in golden.rendered(name).split("\n---") for line in _twice(document)]
    assert not twice


def _twice(document: str) -> list[str]:
    found: list[str] = []

    def checked(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[object, object]:
        keys = [key.value for key, _ in node.value]
        found.extend({key for key in keys if keys.count(key) > 1})
        return loader.construct_mapping(node, deep=True)

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, checked)
    yaml.load(document, Loader)
    return found


def test_a_key_that_stands_twice_is_found() -> None:
    assert _twice("a: 1\nb: {c: 1, c: 2}\n") == ["c"]
