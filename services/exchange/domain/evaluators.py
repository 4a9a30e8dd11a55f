"""The evaluator that values contributions: its name and the key to which sites seal."""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.refusals import Malformed, Refusal

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_KEY_BYTES = 32


@dataclass(frozen=True)
class Evaluator:
    """The evaluator of this exchange."""

    name: str
    key: bytes


def register(held: Evaluator | None, asked: Evaluator, coordinator: str) -> Evaluator:
    """The evaluator on record; the first one stays, with its key."""
    if not _NAME.fullmatch(asked.name) or asked.name == coordinator:
        said = f"an evaluator is called in small letters and digits, and not {coordinator!r}"
        raise Malformed("BAD_NAME", said, "evaluator")
    if len(asked.key) != _KEY_BYTES:
        raise Malformed("BAD_KEY", f"a public key has {_KEY_BYTES} bytes", "key")
    if held is not None and held != asked:
        said = f"{held.name!r} is the evaluator on record; start it with the key that it was registered with"
        raise Refusal("EVALUATOR_ON_RECORD", said, "key")
    return asked
