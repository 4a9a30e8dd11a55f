"""What the twin calls a parameter, by what a set, a plant's rule or a tag of its equipment may call it.

One table for all of them: a range that a plant proved of its tag FeedRate
bounds the feed of a set, whatever that calls it. Upper and lower case, spaces
and what stands between words make no difference.
"""

from __future__ import annotations

#: The twin's name by each name that is known for it, in small letters and digits alone.
_TABLE = {
    "agitation": "agitation",
    "stirrerspeed": "agitation",
    "agitatorspeed": "agitation",
    "aeration": "aeration",
    "aerationrate": "aeration",
    "gasflow": "aeration",
    "feed": "feed",
    "feedrate": "feed",
    "temperature": "temperature",
    "ph": "ph",
}


def twin_name(name: str) -> str | None:
    """The twin's name of a parameter or tag; None where it has none."""
    return _TABLE.get("".join(letter for letter in name.lower() if letter.isalnum()))


def own_name(name: str) -> str:
    """The twin's name, or the parameter's own where the twin has none."""
    return twin_name(name) or name
