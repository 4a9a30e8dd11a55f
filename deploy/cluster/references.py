"""Find what pods name and nobody brought: `python -m deploy.cluster.references NAMESPACE`.

On a cluster without containers a pod whose ConfigMap or Secret is missing still
becomes Ready, and on a real one it hangs for ever in a state that `helm install`
does not explain. So the names are compared: every ConfigMap, Secret (and their
keys), ServiceAccount and volume claim that a pod, or the template of a workload,
names without calling it optional must be there.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.local import kube_tools

Object = dict[str, Any]

#: Where each kind that makes pods keeps their spec.
TEMPLATES = {
    "Pod": ("spec",),
    "Deployment": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "DaemonSet": ("spec", "template", "spec"),
    "ReplicaSet": ("spec", "template", "spec"),
    "Job": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}
#: What they may name.
NAMED = ("ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim")


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """One name in a pod's spec: of which kind, which key of it (empty: any), and where it stands."""

    kind: str
    name: str
    key: str
    place: str


def references(spec: Object) -> Iterator[Reference]:
    """Everything that a pod's spec names and that must exist for the pod to start."""
    yield Reference("ServiceAccount", spec.get("serviceAccountName") or "default", "", "serviceAccountName")
    for secret in spec.get("imagePullSecrets", ()):
        yield Reference("Secret", secret["name"], "", "imagePullSecrets")
    for volume in spec.get("volumes", ()):
        yield from _of_volume(volume)
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind, ()):
            yield from _of_container(container)


def _of_volume(volume: Object) -> Iterator[Reference]:
    place = f"volume {volume['name']}"
    if claim := volume.get("persistentVolumeClaim"):
        yield Reference("PersistentVolumeClaim", claim["claimName"], "", place)
    # A secret alone is called by secretName, everything else by name.
    sources = [*volume.get("projected", {}).get("sources", ()), volume]
    for source in sources:
        for field, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
            if (named := source.get(field)) and not named.get("optional"):
                name = named.get("name") or named["secretName"]
                keys = [item["key"] for item in named.get("items", ())] or [""]
                yield from (Reference(kind, name, key, place) for key in keys)


def _of_container(container: Object) -> Iterator[Reference]:
    place = f"container {container['name']}"
    kinds = {"configMapRef": "ConfigMap", "secretRef": "Secret"}
    for source in container.get("envFrom", ()):
        for field, kind in kinds.items():
            if (named := source.get(field)) and not named.get("optional"):
                yield Reference(kind, named["name"], "", f"{place}, envFrom")
    kinds = {"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}
    for variable in container.get("env", ()):
        for field, kind in kinds.items():
            if (named := variable.get("valueFrom", {}).get(field)) and not named.get("optional"):
                yield Reference(kind, named["name"], named["key"], f"{place}, env {variable['name']}")


def pod_spec(workload: Object) -> Object | None:
    """The spec of the pods that an object is or makes; None for an object that makes none."""
    spec: Any = workload
    for field in TEMPLATES.get(workload["kind"], ("there is none",)):
        spec = spec.get(field)
        if spec is None:
            return None
    found: Object = spec
    return found


@dataclass(frozen=True, slots=True)
class Unmet:
    """A reference of one workload that nobody met; `exists` when only the key is lacking."""

    workload: Object
    reference: Reference
    exists: bool

    def __str__(self) -> str:
        wanted, metadata = self.reference, self.workload["metadata"]
        key = f" with the key {wanted.key}" if self.exists else ""
        named = f"{wanted.kind} {wanted.name}{key} ({wanted.place})"
        return f"{self.workload['kind']} {metadata['name']} names {named}, which does not exist"


def missing(objects: Iterable[Object]) -> list[str]:
    """One sentence for each name in the objects' pods that is not among the objects of the same namespace."""
    return sorted({str(one) for one in unmet(objects)})


def unmet(objects: Iterable[Object]) -> Iterator[Unmet]:
    """What the objects' pods name and is not among the objects.

    An object that another of them has made (a pod of a ReplicaSet, a Job of a CronJob) is passed over: its
    maker tells the same. The claims that a StatefulSet's templates make count as brought.
    """
    listed = list(objects)
    brought = {_identity(one): _keys(one) for one in listed if one["kind"] in NAMED}
    makers = {one["metadata"].get("uid") for one in listed}
    for one in listed:
        if (spec := pod_spec(one)) is None or any(owner in makers for owner in _owners(one)):
            continue
        space = one["metadata"].get("namespace", "")
        made = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())}
        for wanted in references(spec):
            if wanted.kind == "PersistentVolumeClaim" and wanted.name in made:
                continue
            keys = brought.get((wanted.kind, space, wanted.name))
            if keys is None or (wanted.key and wanted.key not in keys):
                yield Unmet(one, wanted, exists=keys is not None)


def _identity(one: Object) -> tuple[str, str, str]:
    return one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]


def _keys(one: Object) -> frozenset[str]:
    fields: tuple[Mapping[str, str] | None, ...] = (
        one.get("data"),
        one.get("binaryData"),
        one.get("stringData"),
    )
    return frozenset(key for field in fields for key in field or ())


def _owners(one: Object) -> list[str]:
    return [owner["uid"] for owner in one["metadata"].get("ownerReferences", ())]


def ask(namespace: str) -> list[str]:
    """The command whose answer `missing` reads: all that makes pods, and all that they may name."""
    kinds = ",".join(kind.lower() for kind in (*TEMPLATES, *NAMED))
    return ["get", kinds, "--namespace", namespace, "--output", "json"]


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m deploy.cluster.references NAMESPACE", file=sys.stderr)
        return 2
    command = [str(kube_tools.kubectl()), *ask(sys.argv[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"references: kubectl says: {done.stderr.strip()}", file=sys.stderr)
        return 2
    found = missing(json.loads(done.stdout)["items"])
    print("\n".join(found) or "references: everything that a pod names is there")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
