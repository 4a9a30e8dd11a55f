"""Judge the rendered variants by checkov's policies.

checkov lives in an environment of its own under `.tools`, hash-pinned, made on
first use. Every finding is either mended or waived here with its reason; a
waiver that nothing needs any more fails as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.stamps import ROOT, Stamp, alone, digest

FOLDER = ROOT / ".tools" / "checkov"
PINS = ROOT / "requirements" / "checkov.txt"


@dataclass(frozen=True)
class Waiver:
    """A finding that is not mended: of which resources (kind and end of the name), and why."""

    reason: str
    kinds: tuple[str, ...] = ()
    name: str = ""

    def covers(self, kind: str, name: str) -> bool:
        return (not self.kinds or kind in self.kinds) and name.endswith(self.name)


WAIVERS: Mapping[str, Waiver] = {
    "CKV_K8S_8": Waiver("the pod of `helm test` runs once and ends", ("Pod",), "-test"),
    "CKV_K8S_9": Waiver("the pod of `helm test` runs once and ends", ("Pod",), "-test"),
    "CKV_K8S_15": Waiver("an image is named by a version that is never changed, or by digest"),
    "CKV_K8S_21": Waiver("the namespace is the release's (helm --namespace), and no resource names another"),
    "CKV_K8S_35": Waiver("services read the login of Kafka and MongoDB from their environment alone"),
    "CKV_K8S_43": Waiver(
        "a digest is the installation's to give (image.digest), as the air-gapped example does"
    ),
}


@dataclass(frozen=True)
class Finding:
    """What a policy says of a resource."""

    check: str
    title: str
    kind: str
    name: str

    @property
    def waived(self) -> bool:
        waiver = WAIVERS.get(self.check)
        return waiver is not None and waiver.covers(self.kind, self.name)

    def __str__(self) -> str:
        return f"{self.check} ({self.title}): {self.kind} {self.name}"


def program() -> list[str]:
    """How checkov is called; its environment is made when it is missing."""
    python = FOLDER / "bin" / "python"
    stamp = Stamp("checkov", digest([PINS], str(sys.version_info[:2])), python)
    with alone(FOLDER.with_suffix(".lock")):
        if not stamp.is_current():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
            pip = [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-input",
            ]
            subprocess.run([*pip, "--require-hashes", "-r", str(PINS)], check=True)
            stamp.write()
    return [str(python), "-m", "checkov.main"]


def complaints(rendered: Mapping[str, str]) -> list[str]:
    """Findings of the variants, by their names, that nobody waived; waivers that nothing needs."""
    found = findings(rendered)
    bad = [f"{name}: {one}" for name, every in found.items() for one in every if not one.waived]
    needed = {one.check for every in found.values() for one in every if one.waived}
    unneeded = sorted(set(WAIVERS) - needed)
    return bad + [f"the waiver of {check} is not needed any more: remove it" for check in unneeded]


def findings(rendered: Mapping[str, str]) -> dict[str, list[Finding]]:
    """What checkov finds in the resources of each variant."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in rendered.items():
            Path(folder, f"{name}.yaml").write_text(text)
        command = [*program(), "--directory", folder, "--framework", "kubernetes", "--output", "json"]
        # Its guides on the web are of no use here; offline it would wait for them.
        done = subprocess.run(
            [*command, "--skip-download", "--compact"], capture_output=True, text=True, check=False
        )
    try:
        results = json.loads(done.stdout)["results"]
        failed, passed = _by_file(results["failed_checks"]), _by_file(results["passed_checks"])
        return {name: _parse(failed[name], len(passed[name])) for name in rendered}
    except (ValueError, KeyError, TypeError):
        raise RuntimeError(f"checkov gave no report:\n{done.stdout[-500:]}{done.stderr[-2000:]}") from None


def _by_file(checks: Iterable[Mapping[str, Any]]) -> Mapping[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in checks:
        found[Path(one["file_path"]).stem].append(one)
    return found


def _parse(failed: Iterable[Mapping[str, Any]], passed: int) -> list[Finding]:
    if not passed:
        raise RuntimeError("checkov checked nothing")
    found = []
    for one in failed:
        kind, _, rest = str(one["resource"]).partition(".")
        found.append(Finding(str(one["check_id"]), str(one["check_name"]), kind, rest.rpartition(".")[2]))
    return found
