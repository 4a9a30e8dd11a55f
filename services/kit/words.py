"""Words that a person writes under their name: a reason, the meaning of a signature.

A signature is a name, a moment and what it means (21 CFR 11.50). Name and moment are those of the command
that carries it; what it means is the command's field `meaning`. From there it goes into every event that
the command makes in its actor's name and that has the field, so no handler carries it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from services.kit.errors import Invalid

#: The longest that a person writes, in characters.
LONGEST = 2000


def check_words(words: str, field: str) -> None:
    """Invalid when there are none, or more than anybody reads."""
    if not words.strip():
        raise Invalid("REQUIRED", f"write the {field}: it is kept with your name", field)
    if len(words) > LONGEST:
        raise Invalid("TOO_LONG", f"at most {LONGEST} characters", field)


def meaning_of(request: Message) -> str:
    """What the signature under a request means; empty where it says nothing. Invalid when too long."""
    if "meaning" not in request.DESCRIPTOR.fields_by_name:
        return ""
    signed: Any = request
    meaning: str = signed.meaning
    if len(meaning) > LONGEST:
        said = f"say what the signature means in at most {LONGEST} characters; these are {len(meaning)}"
        raise Invalid("TOO_LONG", said, "meaning")
    return meaning.strip()


def sign(event: Message, actor: str, meaning: str) -> None:
    """Write the meaning into an event of that actor's which has a place for it and says none."""
    fields = event.DESCRIPTOR.fields_by_name
    if meaning and "meaning" in fields and "actor" in fields:
        signed: Any = event
        if signed.actor == actor and not signed.meaning:
            signed.meaning = meaning
