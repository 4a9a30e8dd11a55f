"""Folders that are made once per content and kept: what is slow to build is built once per machine.

A folder's name is the hash of everything that it is made from, so it is never
out of date; it appears whole or not at all, also when two processes want it
at once or one of them is killed. Standard library only.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from deploy.local.stamps import alone


def root() -> Path:
    """Where the folders are kept: $XDG_CACHE_HOME/pharmaloop/cluster, or the same under ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "pharmaloop" / "cluster"


def key(files: Iterable[Path], *facts: str) -> str:
    """A name for what is made from these files (by name and content) and facts: 20 hexadecimal digits."""
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    for fact in facts:
        total.update(f"{fact}\0".encode())
    return total.hexdigest()[:20]


def made(name: str, make: Callable[[Path], None]) -> Path:
    """The kept folder of that name; where there is none, `make` fills a new one, which then takes the name.

    Blocks while another process makes the same folder. Whatever `make` raises goes on, and leaves nothing.
    """
    folder = root() / name
    if folder.is_dir():
        return folder
    root().mkdir(parents=True, exist_ok=True)
    with alone(root() / f"{name}.lock"):
        if folder.is_dir():
            return folder
        new = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=root()))
        try:
            make(new)
            new.chmod(0o755)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder
