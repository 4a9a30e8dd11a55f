"""Rendered resources, and questions about them that several tests ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from deploy.charts.render import Document

_WITH_TEMPLATE = ("Deployment", "StatefulSet", "Job")


@dataclass(frozen=True)
class Pod:
    """A pod as a resource makes it."""

    owner: Document
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.owner["metadata"]["name"])

    @property
    def container(self) -> dict[str, Any]:
        (container,) = self.spec["containers"]
        return dict(container)

    @property
    def command(self) -> list[str]:
        return list(self.container["command"])

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}

    @property
    def environment(self) -> dict[str, Any]:
        """By name: the value, or where it comes from."""
        entries = self.container["env"]
        assert len({entry["name"] for entry in entries}) == len(entries), f"{self.name}: a name twice"
        return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}

    @property
    def mounts(self) -> dict[str, dict[str, Any]]:
        """By path: the mount."""
        return {mount["mountPath"]: mount for mount in self.container["volumeMounts"]}

    @property
    def volumes(self) -> dict[str, dict[str, Any]]:
        return {volume["name"]: volume for volume in self.spec.get("volumes", [])}

    def references(self) -> Iterator[tuple[str, str]]:
        """(kind, name) of whatever must be there before the pod runs."""
        yield "ServiceAccount", self.spec["serviceAccountName"]
        for pull in self.spec.get("imagePullSecrets", []):
            yield "Secret", pull["name"]
        for volume in self.volumes.values():
            if "secret" in volume:
                yield "Secret", volume["secret"]["secretName"]
            if "configMap" in volume:
                yield "ConfigMap", volume["configMap"]["name"]
            if "persistentVolumeClaim" in volume:
                yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        for entry in self.container["env"]:
            if key := entry.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", key["name"]


class Resources:
    """What a chart renders."""

    def __init__(self, documents: list[Document]) -> None:
        self.all = documents

    def of(self, kind: str) -> list[Document]:
        return [document for document in self.all if document["kind"] == kind]

    def named(self, kind: str, name: str) -> Document:
        (found,) = [d for d in self.of(kind) if d["metadata"]["name"] == name]
        return found

    def names(self, kind: str) -> set[str]:
        return {document["metadata"]["name"] for document in self.of(kind)}

    @property
    def pods(self) -> list[Pod]:
        found = [
            Pod(d, d["spec"]["template"]["metadata"]["labels"], d["spec"]["template"]["spec"])
            for d in self.all
            if d["kind"] in _WITH_TEMPLATE
        ]
        return found + [Pod(d, d["metadata"]["labels"], d["spec"]) for d in self.of("Pod")]

    def pod(self, name: str) -> Pod:
        (found,) = [pod for pod in self.pods if pod.name == name]
        return found

    @property
    def processes(self) -> list[Pod]:
        """The pods of services, which is all but the portal's, the jobs' and the tests'."""
        return [pod for pod in self.pods if "--role" in pod.command]

    @property
    def secrets(self) -> dict[str, str]:
        """What the installation says is yours to bring."""
        said = self.named("ConfigMap", "pharmaloop-installation")["data"]["secrets"]
        return dict(yaml.safe_load(said) or {})


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector of labels takes a pod."""
    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return exact and all(
        (labels.get(rule["key"]) in rule["values"]) == (rule["operator"] == "In")
        for rule in selector.get("matchExpressions", [])
    )
