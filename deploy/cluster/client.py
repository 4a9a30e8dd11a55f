"""helm and kubectl as a test calls them, pointed at one cluster and at nothing else.

No kubeconfig or Helm cache of the person who runs it is read or touched. What
the two programs print comes back as text; when one says no, its words are in
the exception.
"""

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy.cluster import crds, references, stages
from deploy.local import kube_tools

Object = dict[str, Any]

COMMAND_SECONDS = 600

#: What a namespace has without anybody's doing, and what comes and goes by itself.
_STANDING = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
_PASSING = {"Event", "Lease", "EndpointSlice", "Endpoints", "ControllerRevision", "PodMetrics"}


class CommandFailed(Exception):
    """A command of helm or kubectl said no; `output` is all that it printed."""

    def __init__(self, command: str, status: int, output: str) -> None:
        super().__init__(f"{command} failed with {status}:\n{output}")
        self.output = output


class Client:
    """helm and kubectl, pointed at one cluster; `folder` takes what they keep."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.folder = folder
        self.kubeconfig = kubeconfig

    def kubectl(self, *arguments: str, stdin: str | None = None, token: str | None = None) -> str:
        """What kubectl prints; as the bearer of the token, else as administrator. Raises CommandFailed."""
        told = list(arguments)
        if token is not None:
            told += ["--kubeconfig", str(self.kubeconfig.with_name("anybody.conf")), "--token", token]
        return self._run(kube_tools.kubectl(), told, stdin)

    def helm(self, *arguments: str) -> str:
        """What helm prints. Raises CommandFailed."""
        return self._run(kube_tools.helm(), list(arguments), None)

    def apply(self, *files: Path) -> None:
        """Apply files on the server's side, which large definitions need."""
        named = [word for file in files for word in ("--filename", str(file))]
        self.kubectl("apply", "--server-side", *named)

    def create(self, objects: Iterable[Object]) -> None:
        """Apply objects that are at hand; unknown fields are refused."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--validate=strict", "--filename", "-", stdin=json.dumps(listed))

    def namespace(self, name: str, *, security: str = "restricted") -> str:
        """Make a namespace that enforces a pod security standard; returns its name, ready to hold pods."""
        labels = {"pod-security.kubernetes.io/enforce": security}
        labels["pod-security.kubernetes.io/warn"] = security
        self.create([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
        self.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace", name, "--timeout=60s")
        return name

    def storage_class(self, name: str) -> None:
        """Make a storage class that gets volumes, as the default one does."""
        kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": stages.PROVISIONER}
        self.create([kind | {"metadata": {"name": name}, "reclaimPolicy": "Delete"}])

    def objects(self, kinds: str, namespace: str) -> list[Object]:
        """All objects of the kinds ("pods,services") in a namespace, as the server has them."""
        found: list[Object] = json.loads(
            self.kubectl("get", kinds, "--namespace", namespace, "--output", "json")
        )["items"]
        return found

    def missing(self, namespace: str) -> list[str]:
        """What pods of the namespace name and nobody brought, a sentence each."""
        return references.missing(json.loads(self.kubectl(*references.ask(namespace)))["items"])

    def token(self, account: str, namespace: str) -> str:
        """A token of a service account, good for ten minutes."""
        return self.kubectl("create", "token", account, "--namespace", namespace, "--duration=10m").strip()

    def may(self, token: str, verb: str, resource: str, namespace: str) -> bool:
        """Whether the token's bearer may do that, by the server's own word."""
        try:
            answer = self.kubectl("auth", "can-i", verb, resource, "--namespace", namespace, token=token)
        except CommandFailed as error:
            if error.output.startswith("no"):
                return False
            raise
        return answer.startswith("yes")

    def inventory(self) -> frozenset[str]:
        """Everything that the cluster holds, as "Kind namespace/name", less what comes and goes by itself."""
        kinds = self.kubectl("api-resources", "--verbs=list", "--output=name").split()
        columns = "custom-columns=K:.kind,S:.metadata.namespace,N:.metadata.name"
        told = self.kubectl(
            "get",
            ",".join(kinds),
            "--all-namespaces",
            "--ignore-not-found",
            "--no-headers",
            f"--output={columns}",
        )
        rows = [line.split(maxsplit=2) for line in told.splitlines()]
        return frozenset(
            f"{kind} {space}/{name.strip()}"
            for kind, space, name in rows
            if kind not in _PASSING and (kind, name.strip()) not in _STANDING
        )

    def install(self, operators: Iterable[str]) -> None:
        """Bring the real resource definitions of operators (of `crds.OPERATORS`); returns when served."""
        for operator in operators:
            self.apply(*crds.files(operator))
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")

    def _run(self, program: Path, arguments: list[str], stdin: str | None) -> str:
        homes = {
            f"HELM_{kind}_HOME": str(self.folder / "helm" / kind.lower())
            for kind in ("CACHE", "CONFIG", "DATA")
        }
        done = subprocess.run(
            [str(program), *arguments],
            input=stdin if stdin is not None else "",
            env={**os.environ, **homes, "KUBECONFIG": str(self.kubeconfig)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            command = f"{program.name} {' '.join(_without_secrets(arguments))}"
            raise CommandFailed(command, done.returncode, done.stdout + done.stderr)
        return done.stdout


def _without_secrets(arguments: list[str]) -> list[str]:
    return [
        "..." if before == "--token" else word
        for before, word in zip(["", *arguments], arguments, strict=False)
    ]
