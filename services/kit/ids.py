"""Identity: lot keys, and ids that two sources or two deliveries make alike.

Every id that has to be the same on a second delivery is a UUIDv5 of what it
identifies (RFC 9562, section 5.5), so that sending twice has one effect.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Literal, NamedTuple
from urllib.parse import quote, unquote

from services.kit.errors import Invalid

_NAMESPACE = uuid.UUID("6f1c6e0a-5d0d-5f5c-9a52-6a5d7d6f4c11")
_LOT_PARTS = 4
_PRODUCT_PARTS = 3
#: The scheme of kits: the item is the study, the lot the kit's number (ADR 14).
KIT = "kit"
#: What cases of the other loops begin with; a lot key, being percent-encoded, has no colon.
_TRANSFER, _STUDY = "transfer:", "study:"


class LotParts(NamedTuple):
    """The parts of a lot key, decoded."""

    owner: str
    scheme: str
    item: str
    lot: str


def derived_id(*parts: str) -> str:
    """UUIDv5 of the parts; equal parts give an equal id in every process, and other parts another."""
    # What joins is escaped inside a part: a partner names orders as it likes.
    escaped = (part.replace("\x1e", "\x1e0").replace("\x1f", "\x1e1") for part in parts)
    return _uuid5("\x1f".join(escaped).encode())


def _uuid5(name: bytes) -> str:
    """The text of `uuid.uuid5(_NAMESPACE, name)`, without making its objects: every event has one."""
    digest = hashlib.sha1(_NAMESPACE.bytes + name, usedforsecurity=False).digest()
    number = int.from_bytes(digest[:16])
    number = number & ~(0xF000 << 64) | 5 << 76  # the version
    number = number & ~(0xC000 << 48) | 0x8000 << 48  # the variant of RFC 9562
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_id() -> str:
    """A random id, for requests."""
    return str(uuid.uuid4())


def _join(*parts: str) -> str:
    return "/".join(quote(part, safe="-._~") for part in parts)


def lot_key(owner: str, scheme: str, item: str, lot: str) -> str:
    """Canonical lot key: parts percent-encoded (RFC 3986 unreserved kept), joined by '/'."""
    return _join(owner, scheme, item, lot)


def product_key(owner: str, scheme: str, item: str) -> str:
    """Canonical product key: a lot key without its last part."""
    return _join(owner, scheme, item)


def _split(key: str, parts: int, field: str, form: str) -> list[str]:
    pieces = key.split("/")
    if len(pieces) != parts or not all(pieces) or _join(*map(unquote, pieces)) != key:
        raise Invalid(
            "NOT_CANONICAL",
            f"{key!r} is not a canonical key; write it as {form}, each part percent-encoded",
            field,
        )
    return [unquote(piece) for piece in pieces]


def parse_lot(key: str, field: str = "lot") -> LotParts:
    """Parts of a canonical lot key; Invalid names `field` when it is not one."""
    return LotParts(*_split(key, _LOT_PARTS, field, "owner/scheme/item/lot"))


def check_product(key: str, field: str = "product") -> str:
    """The key itself; Invalid names `field` when it is not canonical."""
    _split(key, _PRODUCT_PARTS, field, "owner/scheme/item")
    return key


def product_of(lot: str) -> str:
    """Product key of a canonical lot key."""
    return lot.rsplit("/", 1)[0]


def in_kit(key: str) -> bool:
    """Is the lot, or the product, a blinded study's kits? Its scheme says so: whoever holds the key knows."""
    return key.split("/")[1:2] == [KIT]


def transfer_case(set: str, plant: str) -> str:
    """Case of a transfer: the parameter set and the plant. Production calls it the transfer."""
    return _TRANSFER + _join(set, plant)


def study_case(study: str) -> str:
    """Case of the evidence loop: the study."""
    return _STUDY + study


def loop_of(case: str) -> Literal["safety", "transfer", "evidence"]:
    """Name of the loop that a case belongs to: its key says it."""
    if case.startswith(_TRANSFER):
        return "transfer"
    return "evidence" if case.startswith(_STUDY) else "safety"


def dispense_id(site: str, order: str, lot: str) -> str:
    """Id of a dispense: the same from the pharmacy, the hospital and the wholesaler."""
    return derived_id("dispense", site, order, lot)


def claim_id(dispense: str, *said: str) -> str:
    """Id of the fact that somebody tells of a dispense: the same when they say the same again.

    Several sources tell of one dispense, and one source may learn the patient
    later: under the dispense's own id these would be one fact, and all but
    the first would have no effect.
    """
    return derived_id("claim", dispense, *said)


def effect_id(cause: str, effect: str, target: str) -> str:
    """Id of an event that a reactor emits: the same on every delivery of its cause."""
    return derived_id("effect", cause, effect, target)


def plan_id(run: str, pseudonym: str) -> str:
    """Id of a patient's monitoring plan in a run."""
    return derived_id("plan", run, pseudonym)
