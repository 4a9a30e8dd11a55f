"""Keys of a job: certified by the site itself, shared by two sites, useless for anything else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.exchange.domain.aggregation import keys
from services.refusals import Absent, Malformed, Refusal
from tests.unit.exchange.rounds import NAMES, context, fixed_secret, job, public

A, B = NAMES[:2]
IDENTITY = {name: fixed_secret("identity", name) for name in NAMES}
KNOWN = {name: public(IDENTITY[name]) for name in NAMES}


def keys_of(name: str, job_name: str = "job-1") -> keys.JobKeys:
    return keys.job_keys(fixed_secret("secret", job_name, name), job_name, name)


CERTIFICATE = keys.certify(keys_of(B), IDENTITY[B])


def test_two_sites_share_one_secret_and_each_pair_another() -> None:
    sites = job().sites
    shared = {
        frozenset((one, other)): sites[one].session.shared[other]
        for one in NAMES
        for other in NAMES
        if one != other
    }
    assert len(set(shared.values())) == len(shared) == 6
    for one in NAMES:
        for other in set(NAMES) - {one}:
            assert sites[one].session.shared[other] == sites[other].session.shared[one]


def test_another_job_has_other_keys() -> None:
    same_secret = fixed_secret("one secret")
    assert keys.job_keys(same_secret, "job-1", A).public() != keys.job_keys(same_secret, "job-2", A).public()
    assert keys.job_keys(same_secret, "job-1", A).public() != keys.job_keys(same_secret, "job-1", B).public()


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [
        (replace(CERTIFICATE, key=keys_of(A).public()), "NOT_CERTIFIED"),
        (replace(CERTIFICATE, site="hospital-c"), "NOT_CERTIFIED"),
        (replace(CERTIFICATE, signature=b""), "NOT_CERTIFIED"),
        (keys.certify(keys_of(B), IDENTITY[A]), "NOT_CERTIFIED"),
        (keys.certify(keys_of(B, "job-2"), IDENTITY[B]), "OTHER_JOB"),
        (replace(keys.certify(keys_of(B, "job-2"), IDENTITY[B]), job="job-1"), "NOT_CERTIFIED"),
    ],
    ids=["key", "site", "no signature", "other identity", "other job", "renamed job"],
)
def test_a_key_that_its_site_did_not_sign_is_refused(certificate: keys.Certificate, expected: str) -> None:
    with pytest.raises(Refusal, match=expected):
        keys.open_session(keys_of(A), IDENTITY[A], [certificate], KNOWN)


def test_a_site_that_is_not_known_here_is_refused() -> None:
    with pytest.raises(Absent, match="UNKNOWN_SITE"):
        keys.open_session(keys_of(A), IDENTITY[A], [CERTIFICATE], {A: KNOWN[A]})


def test_a_signed_key_that_everybody_knows_the_secret_of_is_refused() -> None:
    class Weak(keys.JobKeys):
        def public(self) -> bytes:
            return bytes(32)

    weak = keys.certify(Weak("job-1", B, bytes(32), bytes(32)), IDENTITY[B])
    with pytest.raises(Refusal, match=f"WEAK_KEY.*{B}"):
        keys.open_session(keys_of(A), IDENTITY[A], [weak], KNOWN)


def test_a_round_with_a_site_without_key_is_refused() -> None:
    site = job(NAMES[:3]).sites[A]
    with pytest.raises(Absent, match=r"NO_KEY_OF_SITE.*hospital-d"):
        site.mask(context(), np.ones(4))
    with pytest.raises(Refusal, match="OTHER_JOB"):
        site.mask(context(NAMES[:3], name="job-2"), np.ones(4))
    with pytest.raises(Refusal, match="NOT_A_PARTICIPANT"):
        site.mask(context(NAMES[1:]), np.ones(4))


def test_secrets_are_not_shown_and_have_32_bytes() -> None:
    session = job().sites[A].session
    for secret in (session.keys.own, session.keys.agreement, session.identity, session.shared[B]):
        assert repr(secret) not in repr(session)
    with pytest.raises(Malformed, match="NO_SECRET"):
        keys.job_keys(b"short", "job-1", A)
