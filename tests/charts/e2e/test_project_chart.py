"""The project's chart, really installed: every variant of `charts/pharmaloop/examples`, good days and bad."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.cluster import references
from deploy.cluster.client import CommandFailed, Object
from deploy.cluster.lab import Lab
from deploy.local.stamps import ROOT

CHART = ROOT / "charts" / "pharmaloop"
EXAMPLES = CHART / "examples"
RELEASE = "demo"
SECONDS = 240
WORKLOADS = "deployments,statefulsets"


class Release:
    """One release of the chart in one namespace."""

    def __init__(self, lab: Lab, namespace: str, *values: Path) -> None:
        self.lab, self.namespace = lab, namespace
        self.values = [f"--values={file}" for file in values]

    def run(self, *arguments: str, seconds: int = SECONDS) -> str:
        return self.lab.helm(*arguments, "--namespace", self.namespace, f"--timeout={seconds}s")

    def install(self, *more: str) -> None:
        self.run("install", RELEASE, str(CHART), *self.values, "--wait", *more)

    def upgrade(self, *more: str, seconds: int = SECONDS) -> None:
        self.run("upgrade", RELEASE, str(CHART), *self.values, "--wait", *more, seconds=seconds)

    def rendered(self, *more: str) -> list[Object]:
        words = ["template", RELEASE, str(CHART), *self.values, "--namespace", self.namespace, *more]
        return [one for one in yaml.safe_load_all(self.lab.helm(*words)) if one]

    def bring(self, *more: str) -> None:
        """Make what the chart leaves to its user: the Secrets that pods name and it does not render.

        Each with the keys that pods ask for by name, and those that the installation says it holds.
        """
        rendered = self.rendered(*more)
        (told,) = (
            yaml.safe_load(one["data"]["secrets"]) or {}
            for one in rendered
            if one["metadata"]["name"] == "pharmaloop-installation"
        )
        keys: dict[str, set[str]] = {}
        for one in references.unmet(rendered):
            assert one.reference.kind == "Secret", str(one)
            known = keys.setdefault(one.reference.name, set())
            known.update(filter(None, [one.reference.key]))
            for part in str(told.get(one.reference.name, "")).split("; "):
                known.update(part.partition(": ")[0].split(", ") if ": " in part else [])
        listed = ((name, sorted(wanted) or ["any"]) for name, wanted in keys.items())
        self.lab.create(secret(self.namespace, name, wanted) for name, wanted in listed)

    def workloads(self) -> dict[str, Object]:
        found = self.lab.objects(WORKLOADS, self.namespace)
        return {f"{one['kind']}/{one['metadata']['name']}": one for one in found}

    def images(self) -> set[str]:
        specs = (one["spec"]["template"]["spec"] for one in self.workloads().values())
        return {container["image"] for spec in specs for container in spec["containers"]}

    def replicas(self) -> dict[str, int]:
        return {name: one["spec"]["replicas"] for name, one in self.workloads().items()}

    def unready(self) -> list[str]:
        """The workloads that have fewer ready pods than they want."""
        return [
            name
            for name, one in self.workloads().items()
            if one["status"].get("readyReplicas", 0) < one["spec"]["replicas"]
        ]

    def pods(self) -> set[str]:
        """The pods that are meant to stay, by their unique ids: those of Jobs are not."""
        found = (pod["metadata"] for pod in self.lab.objects("pods", self.namespace))
        return {
            one["uid"]
            for one in found
            if all(owner["kind"] != "Job" for owner in one.get("ownerReferences", ()))
        }

    def settles(self) -> bool:
        """Whether every workload has its pods ready, now or before the time is over."""
        deadline = time.monotonic() + SECONDS
        while self.unready() and time.monotonic() < deadline:
            time.sleep(0.5)
        return not self.unready()


def secret(namespace: str, name: str, keys: Iterable[str]) -> Object:
    metadata = {"name": name, "namespace": namespace}
    data = dict.fromkeys(keys, "0123456789abcdef0123456789abcdef")
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


@pytest.fixture(scope="module")
def platform(lab: Lab) -> Lab:
    """What the examples say that the cluster has: storage classes and a priority class."""
    for name in ("shared", "local"):
        lab.storage_class(name)
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "platform"}}
    lab.create([kind | {"value": 1000, "globalDefault": False}])
    return lab


def left(lab: Lab, before: frozenset[str]) -> frozenset[str]:
    """What there is beyond `before` once all that goes by itself has gone (volumes need a moment)."""
    deadline = time.monotonic() + SECONDS
    known: frozenset[str] = frozenset()
    while time.monotonic() < deadline:
        now = lab.inventory() - before
        if not any(one.startswith(("Pod ", "ReplicaSet ", "Job ")) for one in now) and now == known:
            return now
        known = now
        time.sleep(1)
    return known


@pytest.mark.parametrize("variant", sorted(file.stem for file in EXAMPLES.glob("*.yaml")))
def test_a_variant_from_install_to_uninstall(platform: Lab, namespace: str, variant: str) -> None:
    release = Release(platform, namespace, EXAMPLES / f"{variant}.yaml")
    release.bring()
    before = platform.inventory()

    release.install()
    first = release.images()
    assert release.unready() == []
    assert platform.missing(namespace) == []
    release.run("test", RELEASE)

    release.upgrade("--set", "image.digest=,image.tag=next")
    assert len(first) == len(release.images()) == 1
    assert release.images().pop().endswith(":next")
    assert release.unready() == []

    # The limit is the rollback's too, which a busy machine may not keep.
    with pytest.raises(CommandFailed):
        release.upgrade("--set", "image.digest=,image.tag=broken", "--rollback-on-failure", seconds=20)
    assert release.images().pop().endswith(":next")
    assert release.settles()

    release.run("rollback", RELEASE, "1", "--wait")
    assert release.images() == first
    assert release.unready() == []

    release.run("uninstall", RELEASE, "--wait")
    kept = {
        line.split("/")[-1] for line in left(platform, before) if not line.startswith("PersistentVolume ")
    }
    assert all(name.endswith("-keys") for name in kept), "only keys outlive a release"
    if variant != "two-services":
        assert kept


def test_the_keys_go_too_when_told_so(platform: Lab, namespace: str) -> None:
    release = Release(platform, namespace, EXAMPLES / "minimal.yaml")
    release.bring()
    before = platform.inventory()
    release.install("--set", "keepKeys=false")
    release.run("uninstall", RELEASE, "--wait")
    assert left(platform, before) == frozenset()


def test_an_installation_takes_up_the_keys_that_an_earlier_one_left(platform: Lab, namespace: str) -> None:
    """As after `helm uninstall` for a restore: a new claim would be empty, and what was sealed lost."""
    release = Release(platform, namespace, EXAMPLES / "minimal.yaml")

    def claims() -> dict[str, str]:
        found = (one["metadata"] for one in platform.objects("persistentvolumeclaims", namespace))
        return {one["name"]: one["uid"] for one in found if one["name"].endswith("-keys")}

    release.bring()
    release.install()
    before = claims()
    assert before
    release.run("uninstall", RELEASE, "--wait")
    release.install()
    assert claims() == before
    assert release.unready() == []


def test_a_site_more(platform: Lab, namespace: str, tmp_path: Path) -> None:
    example = yaml.safe_load((EXAMPLES / "minimal.yaml").read_text())
    more = {
        "name": "hospital-z",
        "displayName": "Hospital Z",
        "exposureKey": {"secretName": "exposure-hospital-z"},
    }
    grown = tmp_path / "grown.yaml"
    grown.write_text(yaml.safe_dump(example | {"sites": [*example["sites"], more]}))
    release = Release(platform, namespace, EXAMPLES / "minimal.yaml")
    release.bring()
    release.install()
    before = release.workloads().keys()
    larger = Release(platform, namespace, grown)
    with pytest.raises(CommandFailed, match="Secret exposure-hospital-z: it is not in the namespace"):
        larger.upgrade()
    assert release.workloads().keys() == before, "nobody brought the new hospital's key"
    larger.bring()
    larger.upgrade()
    added = larger.workloads().keys() - before
    assert added
    assert all("hospital-z" in name for name in added)
    assert platform.missing(namespace) == []
    assert larger.unready() == []


def test_autoscaling_is_turned_on_without_a_drop(platform: Lab, namespace: str) -> None:
    release = Release(platform, namespace, EXAMPLES / "minimal.yaml")
    release.bring()
    service = "services.traceability"
    release.install("--set", f"{service}.replicas=4")
    before = release.pods()
    scaler = f"{service}.autoscaling.enabled=true,{service}.autoscaling.maxReplicas=6"
    server = "autoscaling.prometheusServer=http://prometheus.monitoring:9090"
    for _ in range(2):  # turned on, and upgraded with it on
        release.upgrade("--set", f"{service}.replicas=4,{scaler},{server}")
        assert [count for name, count in release.replicas().items() if "traceability" in name] == [4]
        assert release.pods() >= before, "a pod that ran before was stopped"
    assert [one["spec"]["maxReplicaCount"] for one in platform.objects("scaledobjects", namespace)] == [6]


def test_a_failing_migration_changes_nothing(platform: Lab, namespace: str) -> None:
    release = Release(platform, namespace, EXAMPLES / "minimal.yaml")
    release.bring()
    release.install()
    images, pods = release.images(), release.pods()
    with pytest.raises(CommandFailed, match="migrate"):
        release.upgrade("--set", "image.tag=failing,migration.backoffLimit=0")
    assert (release.images(), release.pods()) == (images, pods)


def test_a_first_installation_that_failed_is_taken_away_and_begun_again(
    platform: Lab, namespace: str
) -> None:
    release = Release(platform, namespace, EXAMPLES / "minimal.yaml")
    release.bring()
    with pytest.raises(CommandFailed, match="migrate"):
        release.install("--set", "image.tag=failing,migration.backoffLimit=0")
    assert release.workloads() == {}, "nothing starts before the migration"
    with pytest.raises(CommandFailed, match=RELEASE):
        release.install()
    release.run("uninstall", RELEASE, "--wait")
    release.install()
    assert release.unready() == []


def test_the_migration_needs_no_right_and_has_none(platform: Lab, namespace: str) -> None:
    release = Release(platform, namespace, EXAMPLES / "minimal.yaml")
    (job,) = (one for one in release.rendered() if one["kind"] == "Job")
    account = job["spec"]["template"]["spec"]["serviceAccountName"]
    metadata = {"name": account, "namespace": namespace}
    platform.create([{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}])
    release.bring()
    release.install("--no-hooks")
    token = platform.token(account, namespace)
    for verb, resource in (("get", "secrets"), ("list", "pods"), ("create", "jobs"), ("get", "configmaps")):
        assert not platform.may(token, verb, resource, namespace)


def test_a_second_release_in_one_namespace_is_refused(platform: Lab, namespace: str) -> None:
    release = Release(platform, namespace, EXAMPLES / "two-services.yaml")
    release.bring()
    release.install()
    with pytest.raises(CommandFailed, match=RELEASE):
        release.run("install", "another", str(CHART), *release.values)
    listed: list[dict[str, Any]] = json.loads(platform.helm("list", "--namespace", namespace, "-o", "json"))
    assert {one["name"] for one in listed if one["status"] == "deployed"} == {RELEASE}


def test_a_secret_that_is_missing_is_refused_before_anything_is_made(platform: Lab, namespace: str) -> None:
    release = Release(platform, namespace, EXAMPLES / "minimal.yaml")
    before = platform.inventory()
    with pytest.raises(CommandFailed, match="Secret exposure-master: it is not in the namespace"):
        release.install()
    assert left(platform, before) == frozenset()


SEVERAL = "services.production.replicas=2,services.production.persistence.accessMode=ReadWriteMany"


def test_one_pod_does_not_become_several_on_a_claim_for_one(platform: Lab, namespace: str) -> None:
    """Refused before anything is changed; with a claim of one's own it goes."""
    release = Release(platform, namespace, EXAMPLES / "minimal.yaml")
    release.bring()
    release.install()
    pods = release.pods()
    with pytest.raises(CommandFailed, match="keys was made for one pod"):
        release.upgrade("--set", SEVERAL)
    assert release.pods() == pods
    listed = json.loads(platform.helm("history", RELEASE, "--namespace", namespace, "--output", "json"))
    assert [one["status"] for one in listed] == ["deployed"]

    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "keys-for-many", "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    platform.create([claim])
    release.upgrade("--set", f"{SEVERAL},services.production.persistence.existingClaim=keys-for-many")
    assert release.unready() == []
    assert platform.missing(namespace) == []
    claims = {one["metadata"]["name"] for one in platform.objects("persistentvolumeclaims", namespace)}
    assert f"{RELEASE}-production-keys" in claims, "the old keys are not taken away"


def test_a_class_that_was_named_is_to_be_named_again(platform: Lab, namespace: str) -> None:
    release = Release(platform, namespace, EXAMPLES / "minimal.yaml")
    release.bring()
    local = "services.rnd.persistence.storageClass=local"
    release.install("--set", local)
    with pytest.raises(CommandFailed, match=r"services\.rnd\.persistence\.storageClass: .* set it to local"):
        release.upgrade()
    release.upgrade("--set", local)
    classes = {
        one["metadata"]["name"]: one["spec"]["storageClassName"]
        for one in platform.objects("persistentvolumeclaims", namespace)
    }
    assert classes[f"{RELEASE}-rnd-keys"] == "local"
    assert classes[f"{RELEASE}-production-keys"] != "local", "the default's, which nobody has to name"


def test_volumes_of_loops_are_made_anew_as_the_refusal_says(platform: Lab, namespace: str) -> None:
    release = Release(platform, namespace, EXAMPLES / "minimal.yaml")
    release.bring()
    release.install()
    larger = "services.loops.persistence.size=4Gi"
    with pytest.raises(CommandFailed) as refused:
        release.upgrade("--set", larger)
    told = f"kubectl -n {namespace} delete statefulset {RELEASE}-loops"
    assert told in refused.value.output
    platform.kubectl(*told.split()[1:])
    release.upgrade("--set", larger)
    assert release.unready() == []
    sizes = {
        one["metadata"]["name"]: one["spec"]["resources"]["requests"]["storage"]
        for one in platform.objects("persistentvolumeclaims", namespace)
        if one["metadata"]["name"].startswith("tables-")
    }
    assert sizes == {f"tables-{RELEASE}-loops-0": "4Gi"}
