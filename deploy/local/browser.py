"""The browser that the tests of pages drive: Chromium of this machine, or of Debian's packages."""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PACKAGES = ("chromium", "fonts-noto-cjk")


def find() -> str | None:
    """Path of the browser: PHARMALOOP_BROWSER, else the first that is installed; None where there is none."""
    told = os.environ.get("PHARMALOOP_BROWSER")
    return told or next((path for name in NAMES if (path := shutil.which(name))), None)


def main() -> int:
    """Make sure that there is one; where this may not install it, say how."""
    if find():
        return 0
    how = f"apt-get install --yes --no-install-recommends {' '.join(PACKAGES)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(
            "test: the pages are tested in a real browser, and this machine has none: install Chromium "
            f"(Debian: {how}), or name one in PHARMALOOP_BROWSER",
            file=sys.stderr,
        )
        return 1
    print("test: installing Chromium for the tests of pages ...", flush=True)
    for command in (["apt-get", "update", "-q"], how.split()):
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(
                f"test: {' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}",
                file=sys.stderr,
            )
    return 0 if find() else 1


if __name__ == "__main__":
    sys.exit(main())
