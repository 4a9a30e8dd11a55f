"""Judge the rendered variants by checkov's policies: `make charts-policy`.

checkov lives in an environment of its own under `.tools`, hash-pinned, made on
first use. Every finding is either mended or waived here with its reason; a
waiver that nothing needs any more fails as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.charts import golden
from deploy.charts.render import variants
from deploy.local.stamps import ROOT, Stamp, digest

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
    if not stamp.is_current():
        print("charts-policy: installing checkov (once) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "--require-hashes", "-r", str(PINS)], check=True)
        stamp.write()
    return [str(python), "-m", "checkov.main"]


def findings(text: str) -> list[Finding]:
    """What checkov finds in rendered resources."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rendered.yaml"
        file.write_text(text)
        command = [*program(), "--file", str(file), "--framework", "kubernetes", "--output", "json"]
        # Its guides on the web are of no use here; offline it would wait for them.
        done = subprocess.run(
            [*command, "--skip-download", "--quiet", "--compact"], capture_output=True, text=True, check=False
        )
    try:
        report = json.loads(done.stdout)
        return _parse(report["results"]["failed_checks"], int(report["summary"]["passed"]))
    except (ValueError, KeyError, TypeError):
        raise RuntimeError(f"checkov gave no report:\n{done.stdout[-500:]}{done.stderr[-2000:]}") from None


def _parse(failed: Iterable[Mapping[str, Any]], passed: int) -> list[Finding]:
    if not passed:
        raise RuntimeError("checkov checked nothing")
    found = []
    for one in failed:
        kind, _, rest = str(one["resource"]).partition(".")
        found.append(Finding(str(one["check_id"]), str(one["check_name"]), kind, rest.rpartition(".")[2]))
    return found


def main() -> int:
    needed, bad = set[str](), False
    for name in variants():
        found = findings(golden.rendered(name))
        needed |= {finding.check for finding in found if finding.waived}
        for finding in found:
            if not finding.waived:
                bad = True
                print(f"{name}: {finding}")
        print(f"{name}: {len(found)} findings, {sum(f.waived for f in found)} of them waived", flush=True)
    for check in sorted(set(WAIVERS) - needed):
        bad = True
        print(f"the waiver of {check} is not needed any more: remove it")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
