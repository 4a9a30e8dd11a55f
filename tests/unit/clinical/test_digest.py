"""The digest against HMAC by its definition: both sides of the protocol must compute the same."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.clinical.domain import digests
from tests.unit.clinical.memory_site import KEY, slow_digest

_names = st.text(st.characters(codec="utf-8", exclude_characters="|"), min_size=1, max_size=20)
_entries = st.tuples(_names, _names, _names, _names, st.sampled_from(["MEMBER", "DISPOSITION"]))


@settings(deadline=None)
@given(st.lists(_entries, unique=True, max_size=20), st.randoms())
def test_the_digest_is_the_sum_of_keyed_hashes_in_any_order(
    entries: list[tuple[str, str, str, str, str]], chance: random.Random
) -> None:
    wanted = slow_digest("|".join(entry) for entry in entries)
    chance.shuffle(entries)
    digest = digests.EMPTY
    for entry in entries:
        digest = digests.added(digest, digests.term(KEY, *entry))
    assert bytes.fromhex(digest) == wanted
    assert digests.text_of(wanted) == digest


def test_the_sum_wraps_at_two_to_the_256th() -> None:
    largest = 2**256 - 1
    assert digests.added(digests.added(digests.EMPTY, largest), 2) == digests.added(digests.EMPTY, 1)


def test_no_entry_is_32_zero_bytes_however_it_was_sent() -> None:
    assert digests.text_of(b"") == digests.text_of(bytes(32)) == digests.EMPTY
