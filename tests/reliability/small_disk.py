"""A small disk of its own for the engines of one test, which can be filled and emptied.

It is a tmpfs in a mount namespace of its own, held by a child process, so that
nothing stays mounted whatever happens to the test, and no right is needed
beyond those that a user has in a namespace of theirs. Where the kernel does not
allow that, `is_small` is False, `why_not` says why, and the data lie in an
ordinary folder: a test must then find another way or fail, never pass.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from services.kit.testing.engines import tied_to_parent

_MB = 1_048_576


class SmallDisk:
    """The folder of the engines' data, on a disk of `megabytes` where that is possible."""

    def __init__(self, folder: Path, megabytes: int = 1200) -> None:
        self.folder = folder
        self.megabytes = megabytes
        self.why_not = ""
        self._holder: subprocess.Popen[str] | None = None

    @property
    def is_small(self) -> bool:
        return self._holder is not None

    def open(self) -> Path:
        """Make the disk; answers the folder as any process of this user reaches it."""
        self.folder.mkdir(parents=True)
        for way in (["--mount"], ["--user", "--map-root-user", "--mount"]):
            if self._mount(way):
                return self._there
        return self.folder

    def _mount(self, way: list[str]) -> bool:
        script = f'mount -t tmpfs -o size={self.megabytes}m none "$1" && echo ready && exec sleep infinity'
        command = ["unshare", *way, "sh", "-c", script, "sh", str(self.folder)]
        try:
            holder = subprocess.Popen(
                tied_to_parent(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        except FileNotFoundError as error:
            self.why_not = f"{error} (Debian: util-linux)"
            return False
        assert holder.stdout is not None
        said = holder.stdout.readline().strip()
        if said == "ready":
            self._holder = holder
            return True
        holder.kill()
        holder.communicate()
        self.why_not = f"the kernel allows no mount in a namespace of one's own: {said}"
        return False

    @property
    def _there(self) -> Path:
        """The folder through the holder's namespace."""
        assert self._holder is not None, self.why_not
        return Path(f"/proc/{self._holder.pid}/root{self.folder}")

    def fill(self) -> None:
        """Take the last byte."""
        with (self._there / "ballast").open("wb", buffering=0) as file:
            size = 16 * _MB
            while size >= 1024:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    size //= 2

    def empty(self) -> None:
        """Give the space back."""
        (self._there / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        if self._holder is not None:
            self._holder.kill()
            self._holder.communicate()
            self._holder = None
