"""Prometheus, Alertmanager and the tools that check what is written for them.

Those of this machine are used where it has them; else Debian's packages are
fetched and unpacked into `.tools`, which needs no root and installs nothing.
apt compares each package with the signed index that it was found in, and
Debian mends its packages under new names; so the series is pinned here, and
what was unpacked has to say that it is of this series. Debian's Alertmanager
alone has to be installed, for it reads a file of its package under /usr/share;
its checker has not.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.local.stamps import ROOT, alone

TOOLS = ROOT / ".tools" / "watch"


class ToolsError(RuntimeError):
    """A program is not to be had; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package: its programs by their usual names, and the series that the tests know."""

    name: str
    series: str
    programs: dict[str, str]


PACKAGES = (
    Package("prometheus", "2.42", {"prometheus": "prometheus", "promtool": "promtool"}),
    Package(
        "prometheus-alertmanager", "0.25", {"alertmanager": "prometheus-alertmanager", "amtool": "amtool"}
    ),
)
#: Without it Debian's Alertmanager does not start, wherever it was unpacked to.
_TEMPLATE = Path("/usr/share/prometheus/alertmanager/default.tmpl")
PROGRAMS = {usual: package for package in PACKAGES for usual in package.programs}


def find(program: str) -> str | None:
    """Path of a program: what PHARMALOOP_<PROGRAM> says, else the fetched one, else this machine's."""
    told = os.environ.get(f"PHARMALOOP_{program.upper()}")
    debian = PROGRAMS[program].programs[program]
    fetched = TOOLS / PROGRAMS[program].name / "usr" / "bin" / debian
    if told or fetched.exists():
        return told or str(fetched)
    return shutil.which(program) or shutil.which(debian)


def need(program: str) -> str:
    """Path of a program, fetched where this machine has none. ToolsError says how to get it by hand."""
    if not (path := find(program)):
        with alone(TOOLS / "lock"):
            if not find(program):
                _fetch(PROGRAMS[program])
        path = find(program)
    if program == "alertmanager" and path and path.startswith(str(TOOLS)) and not _TEMPLATE.exists():
        with alone(TOOLS / "lock"):
            if not _TEMPLATE.exists():
                _install(PROGRAMS[program])
    if not path:
        raise ToolsError(f"{program} is not in what was unpacked to {TOOLS}: name one in {_setting(program)}")
    return path


def version(program: str) -> str:
    """What a program says of its version, such as 2.42.0."""
    return _version(need(program))


def _version(path: str) -> str:
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d[\d.]*)", done.stdout + done.stderr)
    return found[1] if found else ""


def _setting(program: str) -> str:
    return f"PHARMALOOP_{program.upper()}"


def _fetch(package: Package) -> None:
    how = f"install {package.name} {package.series} or newer, or name the program in "
    how += " or ".join(map(_setting, package.programs))
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ToolsError(f"this machine has no {' and no '.join(package.programs)}: {how}")
    print(f"watch: fetching Debian's {package.name} into {TOOLS} ...", file=sys.stderr, flush=True)
    # In the same file system, so that it is moved into its place whole.
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=TOOLS) as folder:
        _download(package, Path(folder), how)
        unpacked = Path(folder) / "unpacked"
        for file in Path(folder).glob("*.deb"):
            _run(["dpkg-deb", "--extract", str(file), str(unpacked)], how)
        for debian in package.programs.values():
            was = _version(str(unpacked / "usr" / "bin" / debian))
            if not was.startswith(f"{package.series}."):
                raise ToolsError(f"Debian's {package.name} is {was} here, not {package.series}: {how}")
        unpacked.rename(TOOLS / package.name)


def _install(package: Package) -> None:
    """With the package's own files. RUNLEVEL says that this is no start of its service."""
    how = f"apt-get install --yes --no-install-recommends {package.name}"
    if os.geteuid() != 0:
        raise ToolsError(
            f"Debian's {package.name} reads {_TEMPLATE}, which only its installation makes: run {how} "
            f"as root, or name another Alertmanager in {_setting('alertmanager')}"
        )
    print(f"watch: installing Debian's {package.name} ...", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    if subprocess.run(how.split(), env=environment, capture_output=True, check=False).returncode:
        _run(["apt-get", "update", "-q"], how)
        _run(how.split(), how, environment=environment)


def _download(package: Package, folder: Path, how: str) -> None:
    command = ["apt-get", "download", "-q", f"{package.name}={package.series}.*"]
    # apt fetches as a user of its own where it is root, who may not write in our folder; it warns, and does.
    if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
        if os.geteuid() == 0:
            _run(["apt-get", "update", "-q"], how)
        _run(command, how, folder)


def _run(
    command: list[str], how: str, folder: Path | None = None, environment: dict[str, str] | None = None
) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolsError(f"{' '.join(command)} failed: {done.stderr.strip()[-800:]}; {how}")


def main() -> int:
    """Fetch what is missing; tell what is used."""
    try:
        for program in PROGRAMS:
            print(f"{program} {version(program)}: {need(program)}")
    except ToolsError as error:
        print(f"watch: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
