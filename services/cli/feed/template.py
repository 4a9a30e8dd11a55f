"""A mapping file to begin with: every column and every key explained. As it stands, it says nothing."""

from __future__ import annotations

from collections.abc import Sequence

from services.cli.feed.columns import Column
from services.cli.feed.units import ALIASES
from services.cli.feed.values import NUMBER
from services.kit.units import convertible

#: What usually is one for a whole file.
_OFTEN_CONSTANT = ("equipment", "owner", "scheme", "item", "site", "source")

_COMMON = """
# Where the clocks of the file stand, for times without an offset from UTC.
# zone: Asia/Shanghai

# How times are written, where they may be read in two ways (strptime); excel: as serial dates.
# date_format: "%d.%m.%Y %H:%M"

# Texts that stand for no value.
# missing: ["NaN", "n/a"]

# The mark before decimals, where 1.234 might be a thousand and more.
# decimal: ","

# What parts the cells, and the encoding; both are found where there is no doubt.
# delimiter: ";"
# encoding: gb18030
"""

_SET_POINTS = """
# Tags that are set-points: recorded, and not monitored.
# set_points: [DryerTemperatureSP]
"""


def template(noun: str, tells: str, columns: Sequence[Column]) -> str:
    """The template of a noun; without the first '# ' of each line below a key it is a mapping."""
    lines = [
        f"# A mapping for 'pharmaloop feed {noun}'. {tells}",
        "# Take the '# ' away from the keys and lines that you need.",
        "",
        "# Which header of your file is which column; an empty one leaves the column out.",
        "# columns:",
    ]
    for column in columns:
        need = " Required." if column.required else " To be found, or left out." if column.expected else ""
        lines.append(f"#   {column.name}: my header  # {column.tells} ({column.kind.label}).{need}")
    constant = [column for column in columns if column.name in _OFTEN_CONSTANT]
    lines += ["", "# One value for every row.", "# constants:"]
    lines += [f'#   {column.name}: "{column.example}"' for column in constant]
    numbers = [column.name for column in columns if column.kind is NUMBER]
    if numbers:
        lines += ["", *_units("DryerTemp" if noun == "readings" else numbers[0], noun)]
    return "\n".join(lines) + "\n" + _COMMON + (_SET_POINTS if noun == "readings" else "")


def _units(measured: str, noun: str) -> list[str]:
    unit, other = ("Cel", '"[degF]"') if noun == "readings" else ("kg", "g")
    groups = "; ".join(", ".join(group) for group in convertible())
    aliases = ", ".join(f"{alias} for {code}" for alias, code in ALIASES.items())
    return [
        "# The UCUM unit in which values are sent; where the file says another one, it is converted.",
        f"# These convert: {groups}; and quotients of two of them.",
        f"# Also taken: {aliases}.",
        "# units:",
        f"#   {measured}: {unit}",
        "",
        "# The unit that the values have in the file, where the file does not say it and it is not the same.",
        "# file_units:",
        f"#   {measured}: {other}",
    ]
