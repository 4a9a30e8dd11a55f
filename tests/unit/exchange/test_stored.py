"""The cohorts that a site has opened masks over, as it stores them."""

from __future__ import annotations

from dataclasses import replace

from services.exchange.domain.cohorts import Cohort
from services.exchange.site.stored import MEMBERS, VALUES, Cohorts
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase


def _member(name: str) -> bytes:
    return name.encode().ljust(32, b".")


A = Cohort(
    "job-a",
    "study",
    ("a", "b", "c"),
    bytes(32),
    (_member("one"), _member("two")),
    opened=True,
    analyst="analyst",
    dataset="a/routine",
    rounds=8,
    values=(("event", b"12345678"),),
)


def by_job(found: list[Cohort]) -> dict[str, Cohort]:
    return {one.job: one for one in found}


async def test_what_was_kept_is_there_whole_for_every_process_of_the_site() -> None:
    database = MemoryDatabase()
    one, other = (Cohorts(AsyncMemoryStore(database)) for _ in range(2))
    assert await one.opened() == []
    await one.keep(A)
    assert await other.opened() == [A]
    told = replace(A, job="job-b", members=(_member("one"), _member("three")), values=())
    await other.keep(told)
    assert by_job(await one.opened()) == {"job-a": A, "job-b": told}


async def test_the_rounds_of_a_job_are_kept_again_and_its_patients_are_not() -> None:
    store = AsyncMemoryStore(MemoryDatabase())
    kept = Cohorts(store)
    for cohort in (A, replace(A, rounds=16), replace(A, job="job-b")):
        await kept.keep(cohort)
    found = by_job(await kept.opened())
    assert (found["job-a"].rounds, found["job-b"].rounds) == (16, 8)
    assert found["job-a"].members is found["job-b"].members
    assert [await store.count(kind, {}) for kind in (MEMBERS, VALUES)] == [1, 1]


async def test_cohorts_that_differ_in_one_patient_or_one_value_are_not_taken_for_one() -> None:
    kept = Cohorts(AsyncMemoryStore(MemoryDatabase()))
    others = (
        replace(A, job="job-b", members=(_member("one"), _member("twp"))),
        replace(A, job="job-c", members=(_member("two"), _member("one"))),
        replace(A, job="job-d", values=(("event", b"12345679"),)),
        replace(A, job="job-e", values=(("even", b"12345678"),)),
    )
    for cohort in (A, *others):
        await kept.keep(cohort)
    assert by_job(await kept.opened()) == {one.job: one for one in (A, *others)}
