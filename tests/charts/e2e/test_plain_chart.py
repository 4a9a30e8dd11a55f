"""The cluster tells the truth: a small chart with one of each thing lives through good days and bad ones.

What this shows for the small chart may be believed of the project's own charts,
which are tried with the same commands.
"""

import json
import time
from pathlib import Path

import pytest

from deploy.cluster.client import CommandFailed, Object
from deploy.cluster.lab import Lab

CHART = str(Path(__file__).with_name("plain"))
SECONDS = 60


def bring_secret(lab: Lab, namespace: str, *keys: str) -> None:
    data = dict.fromkeys(keys, "not a secret at all")
    metadata = {"name": "brought", "namespace": namespace}
    lab.create([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}])


def install(lab: Lab, namespace: str, *more: str) -> None:
    lab.helm("install", "demo", CHART, "--namespace", namespace, "--wait", f"--timeout={SECONDS}s", *more)


def upgrade(lab: Lab, namespace: str, *more: str) -> None:
    lab.helm("upgrade", "demo", CHART, "--namespace", namespace, "--wait", "--reuse-values", *more)


def deployment(lab: Lab, namespace: str) -> Object:
    return next(one for one in lab.objects("deployments", namespace) if one["metadata"]["name"] == "demo")


def image(one: Object) -> str:
    return str(one["spec"]["template"]["spec"]["containers"][0]["image"])


def history(lab: Lab, namespace: str) -> list[str]:
    revisions = json.loads(lab.helm("history", "demo", "--namespace", namespace, "--output", "json"))
    return [revision["status"] for revision in revisions]


def test_it_calls_itself_what_it_is(lab: Lab) -> None:
    told = json.loads(lab.kubectl("version", "--output", "json"))["serverVersion"]
    assert told["gitVersion"] == lab.version.kubernetes
    assert f"{told['major']}.{told['minor']}" == lab.version.name


def test_from_install_to_uninstall(lab: Lab, namespace: str) -> None:
    before = lab.inventory()
    bring_secret(lab, namespace, "password")
    brought = lab.inventory()

    install(lab, namespace)
    lab.helm("test", "demo", "--namespace", namespace, f"--timeout={SECONDS}s")
    assert deployment(lab, namespace)["status"]["availableReplicas"] == 3
    assert lab.missing(namespace) == []

    upgrade(lab, namespace, "--set", "image=registry.invalid/plain:2,replicas=4", f"--timeout={SECONDS}s")
    after = deployment(lab, namespace)
    assert (image(after), after["status"]["updatedReplicas"]) == ("registry.invalid/plain:2", 4)

    lab.helm("rollback", "demo", "1", "--namespace", namespace, "--wait", f"--timeout={SECONDS}s")
    back = deployment(lab, namespace)
    assert (image(back), back["status"]["replicas"]) == ("registry.invalid/plain:1", 3)
    assert history(lab, namespace) == ["superseded", "superseded", "deployed"]

    lab.helm("uninstall", "demo", "--namespace", namespace, "--wait", f"--timeout={SECONDS}s")
    deadline = time.monotonic() + SECONDS
    while (left := lab.inventory() - brought) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == frozenset()
    assert brought - before == {f"Secret {namespace}/brought"}


def test_a_broken_upgrade_rolls_back_by_itself(lab: Lab, namespace: str) -> None:
    bring_secret(lab, namespace, "password")
    install(lab, namespace)
    with pytest.raises(CommandFailed):
        upgrade(
            lab,
            namespace,
            *("--set", "image=registry.invalid/plain:broken"),
            *("--rollback-on-failure", "--timeout=20s"),
        )
    now = deployment(lab, namespace)
    assert (image(now), now["status"]["availableReplicas"]) == ("registry.invalid/plain:1", 3)
    assert history(lab, namespace)[-2:] == ["failed", "deployed"]


def test_a_failing_migration_stops_an_upgrade_before_anything_is_changed(lab: Lab, namespace: str) -> None:
    bring_secret(lab, namespace, "password")
    install(lab, namespace)
    generation = deployment(lab, namespace)["metadata"]["generation"]
    changed = "image=registry.invalid/plain:2,migrationImage=registry.invalid/plain:failing"
    with pytest.raises(CommandFailed, match="demo-migration"):
        upgrade(lab, namespace, "--set", changed, f"--timeout={SECONDS}s")
    now = deployment(lab, namespace)
    assert (image(now), now["metadata"]["generation"]) == ("registry.invalid/plain:1", generation)


def test_restricted_refuses_pods_that_may_run_as_root(lab: Lab, namespace: str) -> None:
    bring_secret(lab, namespace, "password")
    with pytest.raises(CommandFailed):
        install(lab, namespace, "--set", "runAsRoot=true", "--timeout=6s", "--no-hooks")
    assert lab.objects("pods", namespace) == []
    events = lab.objects("events", namespace)
    assert any("runAsNonRoot" in event["message"] for event in events)


def test_a_secret_that_nobody_brought_is_found_though_pods_are_ready(lab: Lab, namespace: str) -> None:
    install(lab, namespace)
    assert deployment(lab, namespace)["status"]["availableReplicas"] == 3
    place = "(container plain, env PASSWORD), which does not exist"
    assert lab.missing(namespace) == [f"Deployment demo names Secret brought {place}"]
    bring_secret(lab, namespace, "passwort")
    assert lab.missing(namespace) == [f"Deployment demo names Secret brought with the key password {place}"]
    bring_secret(lab, namespace, "password")
    assert lab.missing(namespace) == []


def test_a_token_may_do_what_its_role_says_and_no_more(lab: Lab, namespace: str) -> None:
    bring_secret(lab, namespace, "password")
    install(lab, namespace)
    token = lab.token("demo", namespace)
    assert "hello" in lab.kubectl("get", "configmap", "demo", "-n", namespace, "-o", "yaml", token=token)
    assert lab.may(token, "get", "configmaps", namespace)
    assert not lab.may(token, "get", "secrets", namespace)
    with pytest.raises(CommandFailed, match="cannot get resource"):
        lab.kubectl("get", "secret", "brought", "--namespace", namespace, token=token)


def test_pods_are_spread_over_the_zones(lab: Lab, namespace: str) -> None:
    bring_secret(lab, namespace, "password")
    install(lab, namespace)
    zones = {
        node["metadata"]["name"]: node["metadata"]["labels"]["topology.kubernetes.io/zone"]
        for node in lab.objects("nodes", namespace)
    }
    pods = [pod for pod in lab.objects("pods", namespace) if pod["metadata"]["labels"]["app"] == "demo"]
    assert {zones[pod["spec"]["nodeName"]] for pod in pods} == set(zones.values())
    assert len(set(zones.values())) == 3
