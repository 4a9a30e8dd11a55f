"""Sealed values: opened by who holds the key, in the place they were sealed for, and by nobody later."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from services.kit.errors import Integrity, Unknown
from services.kit.sealing import LocalKeys, Sealer, subject_key

ANN, BOB = subject_key("hospital-a", "P-1"), subject_key("hospital-a", "P-2")
PROFILE = clinical.SubjectProfile(age_years=71, sex="F", arm="placebo")


@pytest.fixture
def keys(tmp_path: Path) -> LocalKeys:
    return LocalKeys(tmp_path / "state" / "keys")


@pytest.fixture
def sealer(keys: LocalKeys) -> Sealer:
    return Sealer(keys)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200), st.text(max_size=20), st.text(st.characters(codec="utf-8"), max_size=20))
def test_what_is_sealed_opens(sealer: Sealer, plain: bytes, key_id: str, purpose: str) -> None:
    sealed = sealer.seal_bytes(plain, key_id, purpose)
    assert sealer.open_bytes(sealed, purpose) == plain


def test_a_message_opens_as_what_it_was(sealer: Sealer) -> None:
    sealed = sealer.seal(PROFILE, ANN)
    assert sealer.open(sealed, clinical.SubjectProfile) == PROFILE
    assert b"placebo" not in sealed.SerializeToString()
    assert sealed.key_id == ANN
    again = common.Sealed.FromString(sealed.SerializeToString())
    assert sealer.open(again, clinical.SubjectProfile) == PROFILE


def test_the_same_value_never_looks_the_same(sealer: Sealer) -> None:
    sealed = [sealer.seal_bytes(b"no", ANN, "text") for _ in range(50)]
    assert len({one.nonce for one in sealed}) == 50, "a nonce twice under one key breaks AES-GCM"
    assert len({one.ciphertext for one in sealed}) == 50


@pytest.mark.parametrize("where", [0, 5, -1])
@pytest.mark.parametrize("part", ["nonce", "ciphertext"])
def test_an_altered_value_is_found_out(sealer: Sealer, part: str, where: int) -> None:
    sealed = sealer.seal_bytes(b"some words", ANN, "text")
    body = bytearray(getattr(sealed, part))
    body[where] ^= 1
    setattr(sealed, part, bytes(body))
    with pytest.raises(Integrity, match="altered or moved"):
        sealer.open_bytes(sealed, "text")


@pytest.mark.parametrize("part", ["nonce", "ciphertext"])
@pytest.mark.parametrize("length", [0, 3])
def test_a_shortened_value_is_found_out(sealer: Sealer, part: str, length: int) -> None:
    sealed = sealer.seal_bytes(b"some words", ANN, "text")
    setattr(sealed, part, getattr(sealed, part)[:length])
    with pytest.raises(Integrity):
        sealer.open_bytes(sealed, "text")


def test_a_value_cannot_be_moved_to_another_subject_or_field(sealer: Sealer) -> None:
    sealed = sealer.seal(PROFILE, ANN)
    sealer.seal(PROFILE, BOB)
    with pytest.raises(Integrity):
        sealer.open(sealed, clinical.ResponseText)
    with pytest.raises(Integrity):
        sealer.open_bytes(sealed, "another purpose")
    sealed.key_id = BOB
    with pytest.raises(Integrity):
        sealer.open(sealed, clinical.SubjectProfile)


def test_a_value_cannot_be_moved_even_where_two_keys_are_alike(tmp_path: Path) -> None:
    class OneKey(LocalKeys):
        def _path(self, key_id: str) -> Path:
            return super()._path("the same")

    sealer = Sealer(OneKey(tmp_path))
    sealed = sealer.seal(PROFILE, ANN)
    sealed.key_id = BOB
    with pytest.raises(Integrity):
        sealer.open(sealed, clinical.SubjectProfile)


def test_without_its_key_a_value_is_unknown_and_stays_so(keys: LocalKeys, sealer: Sealer) -> None:
    sealed = sealer.seal(PROFILE, ANN)
    keys.destroy(ANN)
    keys.destroy(ANN)
    keys.destroy("never made")
    with pytest.raises(Unknown) as caught:
        sealer.open(sealed, clinical.SubjectProfile)
    assert caught.value.reason == "NO_KEY"
    # Nothing brings it back: with a new key under the old name, the old values
    # would look altered, and that stops whoever reads them.
    with pytest.raises(Unknown):
        sealer.seal(PROFILE, ANN)
    with pytest.raises(Unknown):
        sealer.open(sealed, clinical.SubjectProfile)
    assert sealer.seal(PROFILE, BOB).key_id == BOB


def test_an_unknown_key_is_not_made_by_opening(keys: LocalKeys, sealer: Sealer, tmp_path: Path) -> None:
    with pytest.raises(Unknown):
        sealer.open_bytes(common.Sealed(key_id="none", nonce=b"n" * 12, ciphertext=b"c" * 20), "text")
    assert list((tmp_path / "state" / "keys").iterdir()) == []


def test_keys_are_readable_by_their_owner_only_and_not_named_after_patients(
    keys: LocalKeys, sealer: Sealer, tmp_path: Path
) -> None:
    sealer.seal(PROFILE, ANN)
    folder = tmp_path / "state" / "keys"
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "P-1" not in file.name
    assert len(file.read_bytes()) == 32


def test_a_destroyed_key_leaves_none_of_its_bytes(keys: LocalKeys, tmp_path: Path) -> None:
    key = keys.make(ANN)
    keys.destroy(ANN)
    assert all(key not in file.read_bytes() for file in (tmp_path / "state" / "keys").iterdir())


def test_many_that_make_a_key_at_once_get_one(tmp_path: Path) -> None:
    made: list[bytes] = []
    start = threading.Barrier(8)

    def make() -> None:
        keys = LocalKeys(tmp_path)
        start.wait()
        made.append(keys.make(ANN))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1
    assert len(list(tmp_path.iterdir())) == 1, "drafts are left behind"


def test_keys_outlive_the_process(tmp_path: Path) -> None:
    sealed = Sealer(LocalKeys(tmp_path)).seal(PROFILE, ANN)
    assert Sealer(LocalKeys(tmp_path)).open(sealed, clinical.SubjectProfile) == PROFILE


@pytest.mark.parametrize("written", [b"0123456789abcdef" * 4 + b"\n", b"short"], ids=["hex", "short"])
def test_a_key_that_is_none_is_named_and_not_taken_for_an_altered_value(
    keys: LocalKeys, sealer: Sealer, written: bytes
) -> None:
    """Whoever brings a site's key writes it in hex, as most programs want it."""
    sealed = sealer.seal_bytes(b"x", ANN, "text")
    assert sealer.has(ANN)
    assert not sealer.has(BOB)
    keys._path(ANN).write_bytes(written)
    for use in (lambda: sealer.has(ANN), lambda: sealer.open_bytes(sealed, "text")):
        with pytest.raises(Integrity, match=f"has {len(written)} bytes and must have 32, not written in hex"):
            use()
