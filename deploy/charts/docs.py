"""The table of values in the chart's README, from its schema and its defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

BEGIN, END = "<!-- values: made by `make charts-docs` -->", "<!-- end of values -->"

#: Helm's own values.
_HELMS = ("global", "pharmaloop-service")


def lines(schema: dict[str, Any], defaults: Any, path: str = "") -> Iterator[str]:
    """One row for each value that a user may set."""
    for name, entry in schema.get("properties", {}).items():
        if name in _HELMS:
            continue
        at, default = f"{path}{name}", defaults.get(name) if isinstance(defaults, dict) else None
        if entry.get("properties"):
            yield from lines(entry, default, f"{at}.")
            continue
        yield _row(at, entry, default)
        if entry.get("items", {}).get("properties") and entry["items"].get("required"):
            yield from lines(entry["items"], None, f"{at}[].")


def _row(at: str, entry: dict[str, Any], default: Any) -> str:
    shown = "" if default is None else f"`{json.dumps(default)}`"
    return f"| `{at}` | {_kind(entry)} | {shown} | {entry.get('description', '')} |"


def _kind(entry: dict[str, Any]) -> str:
    kind = entry["type"] if isinstance(entry["type"], str) else "/".join(entry["type"])
    if "enum" in entry:
        return " ".join(f"`{value}`" if value else "*empty*" for value in entry["enum"])
    least, most = entry.get("minimum"), entry.get("maximum")
    if least is not None:
        return f"{kind}, {least}-{most}" if most is not None else f"{kind}, from {least}"
    return kind


def with_table(readme: str, schema: dict[str, Any], defaults: Any) -> str:
    """The README with its table made anew."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    head = "| value | type | default | meaning |\n| --- | --- | --- | --- |"
    return f"{before}{BEGIN}\n{head}\n" + "\n".join(lines(schema, defaults)) + f"\n{END}{after}"
