"""Write the go.mod and go.sum of every version anew: `python -m deploy.cluster.lock`.

Kubernetes requires its staging modules as v0.0.0 and replaces them by folders
of its own checkout. Replacements of a dependency do not count, so they are
repeated here with the published tags (v1.X.Y of Kubernetes is v0.X.Y of each).
Its whole list of requirements is copied, which keeps the versions that its own
releases were tested with.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from deploy.cluster.build import KWOK, MODULE, SOURCES, VERSIONS, Version, go, lay_out


def go_mod(version: Version, published: dict[str, Any]) -> str:
    """Our go.mod for a Kubernetes whose own one `go mod edit -json` has `published`."""
    staging = [
        one["Old"]["Path"] for one in published["Replace"] if one["New"]["Path"].startswith("./staging/")
    ]
    required = [f"k8s.io/kubernetes {version.kubernetes}"]
    required += [f"sigs.k8s.io/kwok {KWOK}"] if version.has_kwok else []
    required += [
        f"{one['Path']} {one['Version']}" for one in published["Require"] if one["Path"] not in staging
    ]
    tag = f"v0.{version.kubernetes.removeprefix('v1.')}"
    lines = [f"module {MODULE}", "", f"go {published['Go']}", "", "require ("]
    lines += [*(f"\t{one}" for one in required), ")", "", "replace ("]
    lines += [*(f"\t{path} => {path} {tag}" for path in staging), ")", ""]
    return "\n".join(lines)


def lock(version: Version) -> None:
    """Resolve the modules of that version and write its folder."""
    told = json.loads(go("mod", "download", "-json", f"k8s.io/kubernetes@{version.kubernetes}", cwd=SOURCES))
    published = json.loads(go("mod", "edit", "-json", told["GoMod"], cwd=SOURCES))
    version.folder.mkdir(exist_ok=True)
    (version.folder / "go.mod").write_text(go_mod(version, published))
    (version.folder / "go.sum").write_text("")
    with tempfile.TemporaryDirectory() as scratch:
        module = lay_out(version, Path(scratch))
        go("mod", "tidy", cwd=module)
        for name in ("go.mod", "go.sum"):
            shutil.copy(module / name, version.folder)


def main() -> None:
    for version in VERSIONS.values():
        print(f"lock: Kubernetes {version.kubernetes}", flush=True)
        lock(version)


if __name__ == "__main__":
    main()
