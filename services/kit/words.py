"""Words that a person writes under their name: a reason, the meaning of a signature."""

from __future__ import annotations

from services.kit.errors import Invalid

_LONGEST = 2000


def check_words(words: str, field: str) -> None:
    """Invalid when there are none, or more than anybody reads."""
    if not words.strip():
        raise Invalid("REQUIRED", f"write the {field}: it is kept with your name", field)
    if len(words) > _LONGEST:
        raise Invalid("TOO_LONG", f"at most {_LONGEST} characters", field)
