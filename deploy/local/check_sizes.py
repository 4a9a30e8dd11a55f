"""Refuse Python files that have grown beyond what one reads in a sitting (docs: house limit, 600 lines)."""

import sys
from pathlib import Path

LIMIT = 600
FOLDERS = ("services", "deploy", "tests")


def main() -> None:
    files = [file for folder in FOLDERS for file in Path(folder).rglob("*.py")]
    lengths = {file: file.read_bytes().count(b"\n") for file in files}
    for file, length in sorted(lengths.items()):
        if length > LIMIT:
            print(f"{file}: {length} lines; split it (the limit is {LIMIT})")
    sys.exit(any(length > LIMIT for length in lengths.values()))


if __name__ == "__main__":
    main()
