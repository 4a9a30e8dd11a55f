"""Units of measurement as people write them, and the UCUM codes that they mean."""

from __future__ import annotations

import re
from functools import lru_cache

from services.kit.errors import Invalid

#: How people write units that UCUM spells otherwise.
ALIASES = {
    "°C": "Cel",
    "℃": "Cel",
    "°F": "[degF]",
    "℉": "[degF]",
    "µg": "ug",
    "μg": "ug",
    "ml": "mL",
    "l": "L",
    "片": "{tablet}",
    "盒": "{pack}",
}
#: The form that the services check: printable ASCII without spaces.
_FORM = re.compile(r"[A-Za-z0-9*^%\[\]{}()./'\"_+-]{1,40}")


@lru_cache(1024)
def unit_of(text: str) -> str:
    """The UCUM code of a unit as it was written; Invalid where it has not the form of one."""
    found = ALIASES.get(text.strip(), text.strip())
    if not _FORM.fullmatch(found):
        told = f"{text!r} is no UCUM code; write for example mg, mL, Cel, {{tablet}}"
        raise Invalid("BAD_UNIT", told)
    return found


def is_unit(text: str) -> bool:
    """Has the text the form of a unit, or is it a usual way to write one?"""
    return text.strip() in ALIASES or _FORM.fullmatch(text.strip()) is not None
