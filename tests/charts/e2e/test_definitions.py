"""The operators' own definitions are in force: a good object is taken, a wrong one is refused."""

from typing import Any

import pytest

from deploy.cluster.client import CommandFailed, Object
from deploy.cluster.lab import Lab

TOPIC = ("kafka.strimzi.io/v1", "KafkaTopic", {"partitions": 12, "replicas": 3})
USER = ("kafka.strimzi.io/v1", "KafkaUser", {"authentication": {"type": "tls"}})
SCALED = (
    "keda.sh/v1alpha1",
    "ScaledObject",
    {
        "scaleTargetRef": {"name": "worker"},
        "triggers": [{"type": "kafka", "metadata": {"topic": "orders", "lagThreshold": "10"}}],
    },
)
MONITOR = (
    "monitoring.coreos.com/v1",
    "ServiceMonitor",
    {"selector": {"matchLabels": {"app": "demo"}}, "endpoints": [{"port": "metrics", "interval": "30s"}]},
)
CERTIFICATE = (
    "cert-manager.io/v1",
    "Certificate",
    {"secretName": "tls", "dnsNames": ["demo"], "issuerRef": {"name": "ours", "kind": "Issuer"}},
)


def of(kind: tuple[str, str, dict[str, Any]], namespace: str, **changed: Any) -> Object:
    version, name, spec = kind
    metadata = {"name": "demo", "namespace": namespace}
    return {"apiVersion": version, "kind": name, "metadata": metadata, "spec": spec | changed}


def test_good_ones_are_taken(lab: Lab, namespace: str) -> None:
    kinds = (TOPIC, USER, SCALED, MONITOR, CERTIFICATE)
    lab.create([of(kind, namespace) for kind in kinds])
    asked = ",".join(kind[1].lower() for kind in kinds)
    assert {one["kind"] for one in lab.objects(asked, namespace)} == {kind[1] for kind in kinds}


@pytest.mark.parametrize(
    ("kind", "changed", "named"),
    [
        (TOPIC, {"partitions": "many"}, "partitions"),
        (TOPIC, {"partition": 12}, "partition"),
        (USER, {"authentication": {"type": "kerberos"}}, "authentication"),
        (SCALED, {"maxReplicas": 4}, "maxReplicas"),
        (SCALED, {"triggers": None}, "triggers"),
        (MONITOR, {"endpoints": [{"port": "metrics", "interval": "soon"}]}, "interval"),
        (CERTIFICATE, {"issuerRef": {}}, "issuerRef"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else str(value) if isinstance(value, str) else "",
)
def test_wrong_ones_are_refused(
    lab: Lab, namespace: str, kind: tuple[str, str, dict[str, Any]], changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(CommandFailed, match=named):
        lab.create([of(kind, namespace, **changed)])
    assert lab.objects(kind[1].lower(), namespace) == []
