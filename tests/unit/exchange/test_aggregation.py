"""A sum over sites that is right to the last bit, and of no site's own numbers a trace."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.exchange.domain.aggregation import coordinator, masks
from services.exchange.domain.aggregation.context import (
    Context,
    parameters_hash,
)
from services.exchange.domain.aggregation.coordinator import Receipt, Round
from services.exchange.domain.aggregation.layout import Floats, Layout, Part, Words, fitted, from_bytes
from services.exchange.domain.aggregation.messages import Opening
from services.refusals import Malformed, Refusal
from tests.unit.exchange.rounds import (
    NAMES,
    Job,
    collected,
    context,
    fixed_secret,
    job,
    layout,
    opened,
    played,
    vectors_of,
)

THREE = NAMES[:3]
#: The statistic of bytes has 255 degrees of freedom; a uniform source is outside once in 10^5.
CHI_SQUARE = (169.0, 358.0)


def chi_square(data: bytes) -> float:
    counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
    expected = len(data) / 256
    return float(((counts - expected) ** 2).sum() / expected)


def reason(refusal: pytest.ExceptionInfo[Refusal]) -> tuple[str, str]:
    return refusal.value.reason, refusal.value.field


def summed(of: Layout, held: Round, left_out: str = "") -> Words:
    """The sum of masked vectors, as somebody would form it who holds no opening."""
    total = from_bytes(of, bytes(of.nbytes))
    for name, vector in held.vectors.items():
        if name != left_out:
            total = total + from_bytes(of, vector.words)
    return total


# --- the sum ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.data(), st.integers(3, 6), st.sampled_from([64, 128]))
def test_the_sum_is_right_for_any_vectors_within_bounds(data: st.DataObject, sites: int, width: int) -> None:
    bound = 2.0 ** (20 if width == 64 else 55)
    names = [f"site-{number}" for number in range(sites)]
    numbers = st.lists(st.floats(-bound, bound), min_size=5, max_size=5)
    vectors = {name: np.array(data.draw(numbers)) for name in names}
    of = layout(5, bound, width)
    total = played(job(names), context(names, of=of), vectors)["gradient"]
    scale = 1 << of.bits(of.parts[0])[0]
    for place in range(5):
        sent = [round(Fraction(float(vectors[name][place])) * scale) for name in names]
        assert total[place] == sum(sent) / scale, "the double next to the exact sum of what was sent"


def test_the_sum_of_real_sized_updates_is_within_half_a_step_a_site() -> None:
    vectors = vectors_of(THREE, 272)
    total = played(job(THREE), context(THREE, of=layout(272)), vectors)["gradient"]
    assert np.abs(total - sum(vectors.values())).max() <= 3 * 2.0**-37 + 1e-12


def test_parts_come_back_by_name_each_on_its_scale() -> None:
    parts = (Part("n", 1, 1e6, 0), Part("sum", 3, 1e4), Part("squares", 2, 1e7, 30))
    vectors = {name: np.array([100.0 + at, 1.5, -2.25, 0.0, 9e6, 0.125]) for at, name in enumerate(THREE)}
    total = played(job(THREE), context(THREE, of=Layout(parts)), vectors)
    assert total["n"].tolist() == [303.0]
    assert total["sum"].tolist() == [4.5, -6.75, 0.0]
    assert total["squares"].tolist() == [27e6, 0.375]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(1e-12, 1e15), min_size=1, max_size=6), st.integers(3, 9), st.sampled_from([64, 128])
)
def test_a_fitted_layout_takes_sums_at_the_bound_and_keeps_their_digits(
    bounds: list[float], sites: int, width: int
) -> None:
    names = [f"site-{number}" for number in range(sites)]
    vectors = {name: np.array(bounds) for name in names}
    of = fitted({"x": bounds}, sites, width)
    total = played(job(names), context(names, of=of), vectors)["x"]
    assert total == pytest.approx(np.array(bounds) * sites, rel=1e-9 if width == 64 else 1e-15, abs=1e-16)
    assert (np.abs(total - np.array(bounds) * sites) <= sites * 2.0**-58 * np.array(bounds) + 1e-16).all()


def test_a_bound_too_large_for_the_word_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(Malformed, match="SUM_CAN_WRAP"):
        fitted({"x": [1e19]}, 3)
    with pytest.raises(Malformed, match="NO_BOUND"):
        fitted({"x": [float("inf")]}, 3)
    assert fitted({"x": [1e19]}, 3, 128).width == 128


# --- nothing of a site shows -----------------------------------------------------------------------


def test_a_masked_vector_is_uniform() -> None:
    of, names = layout(40_000, 1e3), THREE
    sites = job(names).sites
    for name in names:
        made = sites[name].mask(context(names, of=of), np.full(40_000, 7.0))
        assert CHI_SQUARE[0] < chi_square(made.words) < CHI_SQUARE[1]
    assert chi_square(of.encode(np.full(40_000, 7.0)).tobytes()) > 1e6, "the test sees what is not masked"


def _words(job_: Job, name: str, at: Context, value: float = 1.0) -> Words:
    made = job_.sites[name].mask(at, np.full(at.layout.size, value))
    return from_bytes(at.layout, made.words)


@pytest.mark.parametrize(
    "other",
    [
        context(round_=2),
        context(attempt=2),
        context(at=1e-12),
        context(THREE),
        replace(context(), cohort=fixed_secret("another cohort")),
        replace(context(), layout=layout(4, 1e5)),
    ],
    ids=["round", "attempt", "parameters", "participants", "cohort", "layout"],
)
def test_whatever_changes_every_mask_of_every_site_changes(other: Context) -> None:
    for name in THREE:
        assert (_words(job(), name, context()) != _words(job(), name, other)).all()


def test_two_jobs_with_equal_inputs_differ() -> None:
    one = _words(job(name="job-1"), "hospital-a", context(name="job-1"))
    assert (one != _words(job(name="job-2"), "hospital-a", context(name="job-2"))).all()


def test_sites_with_equal_inputs_send_nothing_equal() -> None:
    job_ = job()
    words = [_words(job_, name, context()) for name in NAMES]
    assert len({int(word) for vector in words for word in vector[:, 0]}) == 16


def test_without_one_site_the_rest_is_noise() -> None:
    names, of = NAMES, layout(2000, 1e3)
    vectors = {name: np.ones(2000) for name in names}
    job_ = job(names)
    held = opened(job_, collected(job_, context(names, of=of), vectors))
    for left_out in names:
        words = summed(of, held, left_out)
        assert (words[:, 0].astype(np.int64) != of.encode(np.full(2000, 3.0))[:, 0].astype(np.int64)).all()
        assert CHI_SQUARE[0] < chi_square(words.tobytes()) < CHI_SQUARE[1]


def test_with_all_vectors_but_no_opening_there_is_noise() -> None:
    of = layout(2000, 1e3)
    held = collected(job(THREE), context(THREE, of=of), {name: np.ones(2000) for name in THREE})
    words = summed(of, held)
    assert CHI_SQUARE[0] < chi_square(words.tobytes()) < CHI_SQUARE[1]
    with pytest.raises(Refusal) as refusal:
        coordinator.total(held)
    assert reason(refusal) == ("NOT_COMPLETE", "participants")


def test_unequal_parameters_give_noise_and_no_total() -> None:
    job_, at, other = job(THREE), context(THREE), context(THREE, at=0.5)
    held = Round(at)
    for name in THREE[:2]:
        held, _ = coordinator.collect(held, job_.sites[name].mask(at, np.ones(4)), job_.identities)
    singled_out = job_.sites[THREE[2]].mask(other, np.ones(4))
    with pytest.raises(Refusal) as refusal:
        coordinator.collect(held, singled_out, job_.identities)
    assert reason(refusal) == ("CONTEXT_DIFFERS", "context")
    # A coordinator that ignores that gains nothing: nobody opens, and had all opened, nothing cancels.
    held = replace(held, vectors={**held.vectors, THREE[2]: singled_out})
    with pytest.raises(Refusal) as refusal:
        job_.sites[THREE[0]].open(coordinator.signed_set(held))
    assert reason(refusal) == ("NOT_SIGNED", "signature")
    openings = {name: _seed(job_, name, at if name != THREE[2] else other) for name in THREE}
    with pytest.raises(Refusal) as refusal:
        coordinator.total(replace(held, openings=openings))
    assert reason(refusal) == ("TOTAL_IS_NOISE", "total")


def _seed(job_: Job, name: str, at: Context) -> Opening:
    seed = masks.self_key(job_.sites[name].session.keys.own, name, at)
    return Opening(context=at.digest(), site=name, seed=seed)


def test_a_late_vector_reveals_nothing() -> None:
    job_, first, of = job(), context(of=layout(2000)), layout(2000)
    vectors = {name: np.full(2000, float(at)) for at, name in enumerate(NAMES)}
    held = Round(first)
    for name in THREE:
        held, _ = coordinator.collect(held, job_.sites[name].mask(first, vectors[name]), job_.identities)
    second = Round(context(THREE, of=of, attempt=2))
    assert coordinator.total(opened(job_, collected(job_, second.context, vectors)))["gradient"][0] == 3.0

    late = job_.sites[NAMES[3]].mask(first, vectors[NAMES[3]])
    assert coordinator.collect(second, late, job_.identities) == (second, Receipt.OTHER_ATTEMPT)
    # A coordinator that keeps it has the whole first attempt, and nobody who opens it.
    held, _ = coordinator.collect(held, late, job_.identities)
    for name in THREE:
        with pytest.raises(Refusal) as refusal:
            job_.sites[name].open(coordinator.signed_set(held))
        assert reason(refusal) == ("ROUND_OPENED", "context")
    words = summed(of, held)
    assert CHI_SQUARE[0] < chi_square(words.tobytes()) < CHI_SQUARE[1]


# --- a site opens once -----------------------------------------------------------------------------


def test_a_site_answers_a_repeated_question_with_the_same_answer() -> None:
    job_, at = job(THREE), context(THREE)
    vectors = vectors_of(THREE)
    site = job_.sites[THREE[0]]
    assert site.mask(at, vectors[THREE[0]]) == site.mask(at, vectors[THREE[0]])
    signed = coordinator.signed_set(collected(job_, at, vectors))
    first = site.open(signed)
    assert site.mask(at, vectors[THREE[0]]).words == site.mask(at, vectors[THREE[0]]).words
    assert site.open(signed) == first


def test_no_keystream_serves_two_vectors() -> None:
    site = job(THREE).sites[THREE[0]]
    site.mask(context(THREE), np.ones(4))
    with pytest.raises(Refusal) as refusal:
        site.mask(context(THREE), np.full(4, 1.0001))
    assert reason(refusal) == ("KEYSTREAM_USED", "vector")


def test_an_attempt_is_answered_for_one_context() -> None:
    site = job(NAMES).sites[THREE[0]]
    site.mask(context(NAMES), np.ones(4))
    with pytest.raises(Refusal) as refusal:
        site.mask(context(THREE), np.ones(4))
    assert reason(refusal) == ("ATTEMPT_TAKEN", "attempt")
    site.mask(context(THREE, attempt=2), np.ones(4))
    with pytest.raises(Refusal) as refusal:
        site.mask(context(NAMES), np.ones(4))
    assert reason(refusal) == ("SUPERSEDED", "attempt")


def test_an_opened_round_has_no_further_attempt() -> None:
    job_ = job()
    played(job_, context(), vectors_of(NAMES))
    with pytest.raises(Refusal) as refusal:
        job_.sites[THREE[0]].mask(context(THREE, attempt=2), np.ones(4))
    assert reason(refusal) == ("ROUND_OPENED", "attempt")


def test_one_who_left_is_not_found_by_repeating_the_parameters() -> None:
    job_ = job()
    played(job_, context(), vectors_of(NAMES))
    for other in (
        context(THREE, round_=2),
        replace(context(round_=2), cohort=fixed_secret("one patient less")),
    ):
        with pytest.raises(Refusal) as refusal:
            job_.sites[THREE[0]].mask(other, np.ones(4))
        assert reason(refusal) == ("OTHER_MEMBERS_AT_SAME_PARAMETERS", "parameters")
    assert played(job_, context(round_=2), vectors_of(NAMES)), "the same sites and patients may repeat them"
    assert played(job_, context(THREE, round_=3, at=0.1), vectors_of(THREE)), "and fewer may go on"


def test_a_restarted_site_goes_by_what_it_stored() -> None:
    job_ = job(THREE)
    site = job_.sites[THREE[0]]
    site.mask(context(THREE), np.ones(4))
    again = replace(site, session=job(THREE).sites[THREE[0]].session)
    assert again.mask(context(THREE), np.ones(4)) == site.mask(context(THREE), np.ones(4))
    with pytest.raises(Refusal, match="KEYSTREAM_USED"):
        again.mask(context(THREE), np.zeros(4))


def test_a_site_opens_for_a_set_that_all_signed_and_no_other() -> None:
    job_, at = job(THREE), context(THREE)
    held = collected(job_, at, vectors_of(THREE))
    signed, site = coordinator.signed_set(held), job_.sites[THREE[0]]
    a, b, c = (signed.statements[name] for name in THREE)
    cases = {
        ("NOT_ALL_SIGNED", "statements"): {THREE[0]: a, THREE[1]: b},
        ("NOT_SIGNED", "signature"): {THREE[0]: a, THREE[1]: b, THREE[2]: replace(c, signature=b.signature)},
        ("NOT_SIGNED", "statements"): {THREE[0]: a, THREE[1]: b, THREE[2]: b},
    }
    for expected, statements in cases.items():
        with pytest.raises(Refusal) as refusal:
            site.open(replace(signed, statements=statements))
        assert reason(refusal) == expected
    assert not site.memory.opened
    site.memory = replace(site.memory, masked=bytes(32))
    with pytest.raises(Refusal) as refusal:
        site.open(signed)
    assert reason(refusal) == ("VECTOR_EXCHANGED", "statements")


def test_a_site_opens_nothing_that_it_did_not_mask() -> None:
    job_ = job(THREE)
    signed = coordinator.signed_set(collected(job_, context(THREE), vectors_of(THREE)))
    fresh = job(THREE).sites[THREE[0]]
    with pytest.raises(Refusal) as refusal:
        fresh.open(signed)
    assert reason(refusal) == ("NOT_MASKED", "context")


# --- bounds, before masking ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        (np.array([0, 0, 0, 1e6 + 1]), ("BEYOND_BOUND", "vector")),
        (np.array([0, -1e9, 0, 0]), ("BEYOND_BOUND", "vector")),
        (np.array([0, np.nan, 0, 0]), ("NOT_A_NUMBER", "vector")),
        (np.array([0, np.inf, 0, 0]), ("NOT_A_NUMBER", "vector")),
        (np.zeros(3), ("WRONG_LENGTH", "vector")),
        (np.zeros((2, 2)), ("WRONG_LENGTH", "vector")),
    ],
)
def test_what_could_wrap_is_refused_and_nothing_is_kept(vector: Floats, expected: tuple[str, str]) -> None:
    site = job(THREE).sites[THREE[0]]
    before = site.memory
    with pytest.raises(Refusal) as refusal:
        site.mask(context(THREE), vector)
    assert reason(refusal) == expected
    assert site.memory == before


def test_the_bound_itself_is_within() -> None:
    vectors = {name: np.array([1e6, -1e6, 0.0, 1e6]) for name in THREE}
    assert played(job(THREE), context(THREE), vectors)["gradient"].tolist() == [3e6, -3e6, 0, 3e6]


def test_a_layout_whose_sum_could_wrap_is_refused_for_that_many_sites() -> None:
    limit = 2.0**63 / 2**36  # 1.3e8
    with pytest.raises(Malformed) as refusal:
        context(THREE, of=layout(bound=limit / 3 + 1e-6))
    assert reason(refusal) == ("SUM_CAN_WRAP", "parts")
    near = layout(bound=limit / 3 - 1)
    vectors = {name: np.full(4, limit / 3 - 1) for name in THREE}
    assert played(job(THREE), context(THREE, of=near), vectors)["gradient"][0] == pytest.approx(limit - 3)
    with pytest.raises(Malformed, match="SUM_CAN_WRAP"):
        context(NAMES, of=near)
    assert context(NAMES, of=layout(bound=1e15, width=128)).layout.nbytes == 64


@pytest.mark.parametrize(
    ("parts", "width", "expected"),
    [
        ((), 64, "NO_PARTS"),
        ((Part("a", 1, 1.0), Part("a", 1, 1.0)), 64, "PART_TWICE"),
        ((Part("a", 0, 1.0),), 64, "EMPTY_PART"),
        ((Part("a", 1, float("inf")),), 64, "NO_BOUND"),
        ((Part("a", 1, float("nan")),), 64, "NO_BOUND"),
        ((Part("a", 1, -1.0),), 64, "NO_BOUND"),
        ((Part("a", 1, 1.0, 64),), 64, "BAD_SCALE"),
        ((Part("a", 1, 1.0, -1),), 64, "BAD_SCALE"),
        ((Part("a", 3, (1.0, 1.0)),), 64, "WRONG_LENGTH"),
        ((Part("a", 2, (1.0, 0.0)),), 64, "NO_BOUND"),
        ((Part("a", 1, 1.0),), 32, "BAD_WIDTH"),
    ],
)
def test_a_malformed_layout_is_refused(parts: tuple[Part, ...], width: int, expected: str) -> None:
    with pytest.raises(Malformed, match=expected):
        Layout(parts, width)


# --- the coordinator -------------------------------------------------------------------------------


def test_a_redelivered_vector_changes_nothing() -> None:
    job_, at = job(THREE), context(THREE)
    made = job_.sites[THREE[0]].mask(at, np.ones(4))
    held, receipt = coordinator.collect(Round(at), made, job_.identities)
    assert (receipt, held.missing_vectors()) == (Receipt.ACCEPTED, THREE[1:])
    assert coordinator.collect(held, made, job_.identities) == (held, Receipt.DUPLICATE)


def test_vectors_of_another_round_or_attempt_are_ignored() -> None:
    job_ = job(THREE)
    held = Round(context(THREE, round_=2, attempt=2))
    for other, expected in (
        (context(THREE, round_=1, attempt=2), Receipt.OTHER_ROUND),
        (context(THREE, round_=2, attempt=1), Receipt.OTHER_ATTEMPT),
    ):
        made = job(THREE).sites[THREE[0]].mask(other, np.ones(4))
        assert coordinator.collect(held, made, job_.identities) == (held, expected)


def test_what_was_altered_or_does_not_belong_is_refused() -> None:
    job_, at = job(), context(THREE)
    made = job_.sites[THREE[0]].mask(at, np.ones(4))
    held, _ = coordinator.collect(Round(at), made, job_.identities)
    other = job_.sites[THREE[1]].mask(at, np.ones(4))
    outsider = job().sites[NAMES[3]].mask(context(), np.ones(4))
    altered = bytes([other.words[0] ^ 1]) + other.words[1:]
    forged = replace(other.statement, signature=bytes(64))
    for vector, expected in (
        (outsider, "NOT_A_PARTICIPANT"),
        (replace(made, words=altered), "SECOND_VECTOR"),
        (replace(other, words=altered), "NOT_SIGNED"),
        (replace(other, words=other.words[:-8]), "WRONG_LENGTH"),
        (replace(other, statement=forged), "NOT_SIGNED"),
        (replace(other, context=bytes(32)), "CONTEXT_DIFFERS"),
    ):
        with pytest.raises(Refusal, match=expected):
            coordinator.collect(held, vector, job_.identities)


def test_a_wrong_opening_is_refused_by_name() -> None:
    job_, at = job(THREE), context(THREE)
    held = collected(job_, at, vectors_of(THREE))
    good = job_.sites[THREE[0]].open(coordinator.signed_set(held))
    with pytest.raises(Refusal, match=r"WRONG_SEED.*hospital-a"):
        coordinator.accept(held, replace(good, seed=bytes(32)))
    with pytest.raises(Refusal, match="NOT_A_PARTICIPANT"):
        coordinator.accept(held, replace(good, site="hospital-z"))
    assert coordinator.accept(held, replace(good, context=bytes(32))) == (held, Receipt.OTHER_ATTEMPT)
    held, _ = coordinator.accept(held, good)
    assert coordinator.accept(held, good) == (held, Receipt.DUPLICATE)
    assert held.missing_openings() == THREE[1:]


def test_the_total_of_vectors_that_are_not_all_there_is_refused() -> None:
    job_ = job(THREE)
    held, _ = coordinator.collect(
        Round(context(THREE)), job_.sites[THREE[0]].mask(context(THREE), np.ones(4)), job_.identities
    )
    with pytest.raises(Refusal, match=r"VECTORS_MISSING.*hospital-b, hospital-c"):
        coordinator.signed_set(held)
    with pytest.raises(Refusal, match=r"NOT_COMPLETE.*hospital-b, hospital-c"):
        coordinator.total(held)


# --- what a round is about -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"participants": ("b", "a", "c")}, ("PARTICIPANTS_UNSORTED", "participants")),
        ({"participants": ("a", "a", "b", "c")}, ("PARTICIPANTS_UNSORTED", "participants")),
        ({"participants": ("", "a", "b")}, ("PARTICIPANTS_UNSORTED", "participants")),
        ({"participants": ("a", "b")}, ("TOO_FEW_SITES", "participants")),
        ({"round": 0}, ("BAD_COUNT", "round")),
        ({"attempt": 0}, ("BAD_COUNT", "attempt")),
        ({"job": ""}, ("NO_JOB", "job")),
        ({"parameters": b"x"}, ("NO_HASH", "parameters")),
        ({"cohort": b""}, ("NO_HASH", "cohort")),
    ],
)
def test_a_malformed_round_is_refused(changes: dict[str, object], expected: tuple[str, str]) -> None:
    with pytest.raises(Malformed) as refusal:
        replace(context(), **changes)  # type: ignore[arg-type]
    assert reason(refusal) == expected


def test_parameters_of_another_shape_are_others() -> None:
    assert parameters_hash(b"", np.zeros((2, 3))) != parameters_hash(b"", np.zeros((3, 2)))
