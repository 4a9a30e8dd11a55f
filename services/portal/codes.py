"""Codes that are printed on packs, as far as a page has to know them: does one name a single pack?

GS1 General Specifications (element strings, Digital Link) and EPC Tag Data Standard (SGTIN URN). What they
mean is the trace's to say.
"""

from __future__ import annotations

import re

_ELEMENTS = re.compile(r"\(01\)[0-9]{8,14}.*\(21\)([^(]+)|\(21\)([^(]+).*\(01\)[0-9]{8,14}")
_LINK = re.compile(r"(?:^|/)01/[0-9]{8,14}/(?:[^?]*/)?21/([^/?]+)")
_SGTIN = re.compile(r"urn:epc:id:sgtin:[0-9]+\.[0-9]+\.(.+)", re.IGNORECASE)


def serial_of(text: str) -> str:
    """The serial of the pack that a code names; empty where it names none."""
    for form in (_ELEMENTS, _LINK, _SGTIN):
        if found := form.search(text.strip()):
            return next(one for one in found.groups() if one)
    return ""
