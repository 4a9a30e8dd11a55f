"""The list of parts of an image, as CycloneDX 1.6 (JSON): its Python packages and its Debian packages.

It is read from what is installed and not from what was asked for. There is no
serial number and no time in it, so that the same image has the same list.
Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

FILE = "sbom.cdx.json"
DPKG = Path("/var/lib/dpkg/status")
_PYTHON = "lib/python3*/site-packages"


def document(environment: Path, image: str, version: str, dpkg: Path = DPKG) -> dict[str, Any]:
    """The list of an image; `environment` is its Python environment, `dpkg` Debian's list of packages."""
    folders = [str(folder) for folder in sorted(environment.glob(_PYTHON))]
    python = [_python(found) for found in distributions(path=folders)]
    debian = list(_debian(dpkg.read_text())) if dpkg.exists() else []
    parts = {part["bom-ref"]: part for part in [*python, *debian]}
    root = f"pharmaloop-{image}@{version}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": root,
                "name": f"pharmaloop-{image}",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [parts[ref] for ref in sorted(parts)],
        "dependencies": [{"ref": root, "dependsOn": sorted(parts)}],
    }


def write(environment: Path, image: str, version: str) -> None:
    text = json.dumps(document(environment, image, version), indent=1)
    (environment / FILE).write_text(text + "\n")


def _python(found: Distribution) -> dict[str, Any]:
    meta = found.metadata
    name = re.sub(r"[-_.]+", "-", meta["Name"]).lower()
    purl = f"pkg:pypi/{name}@{quote(found.version)}"
    expression = next(iter(meta.get_all("License-Expression", [])), "")
    told = [line.rpartition(" :: ")[2] for line in meta.get_all("Classifier", []) if "License ::" in line]
    licences: list[dict[str, Any]] = [{"license": {"name": name}} for name in told]
    return _part(name, found.version, purl, [{"expression": expression}] if expression else licences)


def _debian(status: str) -> Iterator[dict[str, Any]]:
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][\w-]*): (.*)$", paragraph, flags=re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            name, version, cpu = fields["Package"], fields["Version"], fields["Architecture"]
            purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={cpu}"
            yield _part(name, version, purl, [])


def _part(name: str, version: str, purl: str, licences: list[dict[str, Any]]) -> dict[str, Any]:
    part: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    return {**part, "licenses": licences} if licences else part
