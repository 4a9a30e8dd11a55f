"""Adds golden bytes for event types that have none: `python -m tests.contract.make_golden`.

It never rewrites an entry: bytes that are on a topic cannot be taken back. An
event whose meaning changed is a new event type.
"""

from __future__ import annotations

import json

from tests.contract import golden


def main() -> None:
    entries, fresh = golden.load(), golden.missing()
    for name in fresh:
        message = golden.sample(name)
        entries[name] = {"hex": golden.to_bytes(message).hex(), "json": golden.as_json(message)}
    text = json.dumps(dict(sorted(entries.items())), ensure_ascii=False, indent=1)
    golden.FILE.write_text(text + "\n")
    print(f"{len(fresh)} event types added, {len(entries)} in all")


if __name__ == "__main__":
    main()
