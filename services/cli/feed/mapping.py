"""The mapping file: what a user's table calls things, and what it leaves out. YAML, or JSON.

Every value is taken as text, as it is written: `0041` stays a lot, `no` stays
a word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from services.cli.feed.moments import check_format
from services.cli.session import Failure


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of a file; what is empty is found, or asked for.

    `columns`: the header by column (or by tag); an empty header leaves the
    column out. `constants`: one value for every row. `units`: by column or tag,
    the UCUM unit in which its values are sent; `file_units`: the unit that they
    have in the file where the file does not say it. `missing`: texts that
    stand for no value.
    """

    columns: dict[str, str] = msgspec.field(default_factory=dict)
    constants: dict[str, str] = msgspec.field(default_factory=dict)
    units: dict[str, str] = msgspec.field(default_factory=dict)
    file_units: dict[str, str] = msgspec.field(default_factory=dict)
    set_points: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    zone: str = ""
    date_format: str = ""
    decimal: str = ""
    delimiter: str = ""
    encoding: str = ""

    def with_options(self, **options: str) -> Mapping:
        """The mapping with what was said on the command line, which goes before."""
        return msgspec.structs.replace(self, **{name: value for name, value in options.items() if value})

    def canonical(self) -> str:
        """The same text for the same mapping, in whatever order it was written."""
        return msgspec.json.encode(self, order="deterministic").decode()


def read_mapping(path: Path) -> Mapping:
    """The mapping of a file; Failure names what is wrong with it."""
    try:
        raw: Any = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
        found = msgspec.convert(raw or {}, Mapping)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Failure(f"{path} is no YAML in UTF-8: {' '.join(str(error).split())}") from None
    except msgspec.ValidationError as error:
        known = ", ".join(Mapping.__struct_fields__)
        raise Failure(f"{path}: {error}; a mapping has: {known}") from None
    return checked(found, str(path))


def checked(mapping: Mapping, source: str) -> Mapping:
    """The mapping itself; Failure where two of its sayings contradict each other or one is none."""
    if mapping.decimal not in ("", ".", ","):
        raise Failure(f"{source}: decimal is '.' or ',', not {mapping.decimal!r}")
    if mapping.delimiter and (len(mapping.delimiter) != 1 or mapping.delimiter in "\"'\r\n"):
        raise Failure(f"{source}: a delimiter is one character, not {mapping.delimiter!r}")
    check_format(mapping.date_format)
    both = sorted(name for name in mapping.constants if mapping.columns.get(name))
    if both:
        raise Failure(f"{source}: {', '.join(both)} stands under columns and under constants; give one")
    return mapping
