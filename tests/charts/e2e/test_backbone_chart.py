"""The backbone's chart, really installed: Strimzi's own definitions take every field of it."""

from typing import Any

import pytest
import yaml

from deploy.charts.render import BACKBONE
from deploy.cluster.client import Object
from deploy.cluster.lab import Lab

KINDS = ("Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser")
TWO, THREE = (f"sites={{{','.join(names)}}}" for names in (("a", "b"), ("a", "b", "c")))


class Backbone:
    """A release of the chart; no operator acts on what it makes."""

    def __init__(self, lab: Lab, namespace: str, *sets: str) -> None:
        self.lab, self.namespace = lab, namespace
        self.sets = [f"--set={one}" for one in sets]

    def run(self, verb: str, *more: str) -> str:
        return self.lab.helm(verb, "backbone", *more, "--namespace", self.namespace)

    def rendered(self, *more: str) -> dict[tuple[str, str], Object]:
        text = self.run("template", str(BACKBONE), *self.sets, *more)
        return by_name(one for one in yaml.safe_load_all(text) if one)

    def stored(self) -> dict[tuple[str, str], Object]:
        return by_name(self.lab.objects(",".join(kind.lower() for kind in KINDS), self.namespace))


def by_name(objects: Any) -> dict[tuple[str, str], Object]:
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def kept(asked: Any, stored: Any) -> bool:
    """Whether all that was asked for is stored; what the definition fills in may stand beside it."""
    if isinstance(asked, dict):
        return isinstance(stored, dict) and all(k in stored and kept(v, stored[k]) for k, v in asked.items())
    if isinstance(asked, list):
        same = isinstance(stored, list) and len(asked) == len(stored)
        return same and all(kept(*pair) for pair in zip(asked, stored, strict=True))
    return bool(asked == stored)


@pytest.mark.parametrize("authentication", ["tls", "scram-sha-512"])
def test_strimzis_definitions_take_the_backbone(lab: Lab, namespace: str, authentication: str) -> None:
    release = Backbone(lab, namespace, TWO, f"users.authentication={authentication}")
    release.run("install", str(BACKBONE), *release.sets)
    asked, stored = release.rendered(), release.stored()
    assert {kind for kind, _ in asked} == set(KINDS)
    assert asked.keys() == stored.keys()
    # A field that a definition does not know is dropped without a word.
    assert [name for name, one in asked.items() if not kept(one["spec"], stored[name]["spec"])] == []


def test_a_site_more_is_added_and_what_holds_events_outlives_the_release(lab: Lab, namespace: str) -> None:
    first, grown = Backbone(lab, namespace, TWO), Backbone(lab, namespace, THREE)
    first.run("install", str(BACKBONE), *first.sets)
    grown.run("upgrade", str(BACKBONE), *grown.sets)
    there = grown.stored()
    added = there.keys() - first.rendered().keys()
    assert {kind for kind, _ in added} == {"KafkaTopic", "KafkaUser"}
    grown.run("uninstall", "--wait")
    assert grown.stored().keys() == {name for name in there if name[0] != "KafkaUser"}
