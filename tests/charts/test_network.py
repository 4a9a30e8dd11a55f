"""The network: nothing speaks with anything but what is named, and what must speak can."""

from __future__ import annotations

import json
from typing import Any

from deploy.charts.catalogue import BY_NAME
from deploy.charts.render import EXAMPLES, UMBRELLA, documents, template
from tests.charts.resources import Pod, Resources, selects


def _policies(resources: Resources, pod: Pod) -> list[dict[str, Any]]:
    return [p["spec"] for p in resources.of("NetworkPolicy") if selects(p["spec"]["podSelector"], pod.labels)]


def _ways(resources: Resources, pod: Pod, direction: str, side: str) -> list[tuple[dict[str, Any], set[int]]]:
    """(peer, ports) of everything that a pod may speak with in a direction."""
    return [
        (peer, {port["port"] for port in rule.get("ports", [])})
        for policy in _policies(resources, pod)
        for rule in policy.get(direction, [])
        for peer in rule[side]
    ]


def _may_call(resources: Resources, caller: Pod, called: Pod, port: int) -> bool:
    out = any(
        selects(peer["podSelector"], called.labels) and port in ports
        for peer, ports in _ways(resources, caller, "egress", "to")
        if set(peer) == {"podSelector"}
    )
    into = any(
        selects(peer["podSelector"], caller.labels) and port in ports
        for peer, ports in _ways(resources, called, "ingress", "from")
        if set(peer) == {"podSelector"}
    )
    return out and into


def test_every_pod_starts_with_nothing(platform: Resources) -> None:
    for pod in platform.pods:
        denying = [
            p
            for p in _policies(platform, pod)
            if set(p["policyTypes"]) == {"Ingress", "Egress"} and not {"ingress", "egress"} & set(p)
        ]
        assert denying, pod.name


def test_no_rule_is_open(platform: Resources) -> None:
    for policy in platform.of("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], policy["metadata"]["name"]
            assert all(rule["from"]), policy["metadata"]["name"]
            assert rule["ports"], policy["metadata"]["name"]
        for rule in policy["spec"].get("egress", []):
            assert rule["to"], policy["metadata"]["name"]
            assert all(rule["to"]), policy["metadata"]["name"]
            assert rule["ports"], policy["metadata"]["name"]


def test_who_calls_can_and_nobody_else(platform: Resources) -> None:
    """The portal and the test ask everybody; an agent its hospital and the exchange; services no service."""
    for caller in platform.pods:
        who, site = caller.labels["app.kubernetes.io/component"], caller.labels.get("pharmaloop/site")
        for called in platform.processes:
            service = called.labels["app.kubernetes.io/component"]
            at = called.labels.get("pharmaloop/site")
            asks = who in ("portal", "test")
            if who in BY_NAME:
                asks = service in BY_NAME[who].calls and (not BY_NAME[service].site or site == at)
            assert _may_call(platform, caller, called, 50051) == asks, (caller.name, called.name)


def test_who_uses_an_engine_reaches_it_and_names(production: Resources) -> None:
    kafka, mongodb = {"cidr": "10.20.0.0/24"}, {"cidr": "10.20.1.0/24"}
    for pod in production.pods:
        who = pod.labels["app.kubernetes.io/component"]
        ways = _ways(production, pod, "egress", "to")
        blocks = {peer["ipBlock"]["cidr"]: ports for peer, ports in ways if "ipBlock" in peer}
        wanted = {}
        if who in BY_NAME or who == "migrate":
            wanted[kafka["cidr"]] = {9096}
        if who in BY_NAME:
            wanted[mongodb["cidr"]] = {27017}
        assert blocks == wanted, pod.name
        assert any(53 in ports for _, ports in ways), pod.name


def test_metrics_are_for_the_collector_and_pages_for_the_controller(production: Resources) -> None:
    def namespaces(pod: Pod, port: int) -> set[str]:
        return {
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            for peer, ports in _ways(production, pod, "ingress", "from")
            if port in ports and "namespaceSelector" in peer
        }

    for pod in production.processes:
        assert namespaces(pod, 9464) == {"monitoring"}, pod.name
        assert namespaces(pod, 50051) == {"partners"}, pod.name
    assert namespaces(production.pod("pharmaloop-portal"), 8080) == {"ingress"}
    assert namespaces(production.pod("pharmaloop-portal"), 9464) == {"monitoring"}


def test_who_makes_spans_reaches_their_collector_and_nobody_else_does() -> None:
    at = {"podSelector": {"matchLabels": {"app": "collector"}}}
    sets = ['tracing.endpoint="http://collector:4317"', f"networkPolicy.traces=[{json.dumps(at)}]"]
    traced = Resources(documents(template(UMBRELLA, [EXAMPLES / "minimal.yaml"], sets)))
    for pod in traced.pods:
        reaches = any(peer == at and ports == {4317} for peer, ports in _ways(traced, pod, "egress", "to"))
        who = pod.labels["app.kubernetes.io/component"]
        assert reaches == (who in BY_NAME or who == "portal"), pod.name


def test_a_cluster_that_guards_itself_gets_no_policies() -> None:
    open_ = template(UMBRELLA, [EXAMPLES / "minimal.yaml"], ["networkPolicy.enabled=false"])
    assert Resources(documents(open_)).of("NetworkPolicy") == []
