"""Virtual trials: doses, real potencies, power and verdict, and the record of a run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from services.refusals import Malformed
from services.rnd.domain.trial import cohort, endpoint, record, sequential, virtual, warfarin
from services.rnd.domain.trial.dosing import FixedDose, GuidedDose, LotPotency, Supply, mean_potency
from services.rnd.domain.trial.record import TrialRecord
from services.rnd.domain.trial.virtual import Rule, Runs, TrialDesign
from services.rnd.domain.trial.warfarin import Patients

SMALL = TrialDesign(per_arm=25, days=20, visits=(5, 8, 12, 15, 19))


def test_the_guided_dose_brings_typical_patients_to_the_target() -> None:
    drawn = cohort.sample(300, seed=2)
    typical = replace(drawn, eta=np.zeros(300), inr0=np.full(300, 1.1))
    exact = GuidedDose(target=2.5, step=1e-6, lowest=1e-6, highest=1e3)
    hours = tuple(np.linspace(0, 24, 49).tolist())
    course = warfarin.simulate(typical, np.tile(exact.doses(typical), (90, 1)), hours=hours)
    mean = np.trapezoid(course.inr[-1], hours, axis=0) / 24
    assert mean == pytest.approx(np.full(300, 2.5), abs=2e-3)


def test_guided_doses_are_tablets_within_their_bounds_and_follow_the_genotype() -> None:
    rule = GuidedDose()
    drawn = cohort.sample(2_000, seed=5)
    doses = rule.doses(drawn)
    assert np.all((doses >= 0.625) & (doses <= 6.25))
    assert np.all(np.abs(doses / 0.625 - np.round(doses / 0.625)) < 1e-9)
    one = replace(drawn, g=np.zeros(2_000, dtype=np.int64))
    other = replace(drawn, g=np.full(2_000, 2))
    assert rule.doses(one).mean() < rule.doses(other).mean()
    high = replace(drawn, inr0=np.full(2_000, 2.9))
    assert set(rule.doses(high).tolist()) == {0.625}


def test_time_in_range_is_rosendaals() -> None:
    # From 1 to 3 in 10 days: half of the time at 2 or above; then flat at 2.5; then 3.5 to 2.5 in 10 days.
    inr = np.array([[1.0, 2.5, 3.5], [3.0, 2.5, 2.5]])
    assert endpoint.rosendaal([0, 10], inr).tolist() == [50.0, 100.0, 50.0]
    assert endpoint.rosendaal([0, 10, 14], np.array([[1.0], [3.0], [3.0]]))[0] == pytest.approx(100 * 9 / 14)
    assert endpoint.rosendaal([0, 2], np.array([[1.0], [5.0]]))[0] == pytest.approx(25.0)
    assert endpoint.share_in_range(np.array([[1.9], [2.0], [3.0], [3.1]]))[0] == 50.0


def test_patients_take_what_their_lots_hold() -> None:
    supply = Supply((LotPotency("A", 0.9), LotPotency("B", 1.1, share=3)), pack_days=7)
    drawn = supply.draw(20_000, 20, np.random.default_rng(1))
    daily = supply.potencies(drawn, 20)
    assert daily.shape == (20, 20_000)
    assert (drawn == 1).mean() == pytest.approx(0.75, abs=0.01)
    assert np.array_equal(daily[0], daily[6])
    assert not np.array_equal(daily[6], daily[7])
    assert set(np.unique(daily)) == {0.9, 1.1}
    assert mean_potency(supply.lots) == pytest.approx(1.05)


def test_weak_lots_lower_the_inr_that_a_trial_sees() -> None:
    label = virtual.run(SMALL, replicates=40, seed=9)
    weak = virtual.run(SMALL, replicates=40, seed=9, supply=Supply((LotPotency("W", 0.7),)))
    assert weak.inr[0] < label.inr[0] - 0.3
    assert weak.test < label.test - 1
    assert weak.lots == (("W", 40 * 50),)
    exact = virtual.run(SMALL, replicates=40, seed=9, supply=Supply((LotPotency("E", 1.0),)))
    assert replace(exact, lots=()) == label


def test_guided_doses_keep_more_time_in_range_than_the_same_dose_to_all() -> None:
    found = virtual.run(replace(SMALL, endpoint="model"), replicates=60, seed=3)
    assert found.test > found.control + 8
    assert found.success > 0.2
    assert found.success_low < found.success < found.success_high


def test_without_a_difference_the_error_is_alpha() -> None:
    same = replace(SMALL, control=GuidedDose(), test=GuidedDose())
    fixed = virtual.run(same, replicates=1_500, seed=21)
    assert fixed.success_low < 0.025 < fixed.success_high
    looks = sequential.equal_steps("pocock", 3, alpha=0.05, sides=2)
    several = virtual.run(replace(same, looks=looks), replicates=1_500, seed=22)
    assert several.success_low < 0.025 < several.success_high


def test_power_grows_with_patients_and_interim_looks_save_them() -> None:
    larger = replace(SMALL, per_arm=120)
    few, many = (virtual.run(one, replicates=150, seed=4) for one in (SMALL, larger))
    assert many.success > few.success + 0.1
    looks = sequential.equal_steps("obrien_fleming", 3, alpha=0.025, sides=1)
    several = virtual.run(replace(larger, looks=looks), replicates=150, seed=4)
    assert several.patients < 240
    assert sum(several.by_look) == pytest.approx(several.success)
    assert several.success > many.success - 0.05


def test_uncertain_estimates_make_success_less_sure_than_power() -> None:
    found = virtual.assess(replace(SMALL, per_arm=150), Rule(0.8, 5.0), replicates=120, seed=6)
    assert found.power.success > found.success.success
    assert found.success.spread > found.power.spread
    low, high = found.success.interval
    assert low < found.success.difference < high


def test_the_same_seed_gives_the_same_runs() -> None:
    one, again = (virtual.run(SMALL, replicates=100, seed=7, uncertain=True) for _ in range(2))
    assert one == again
    assert one != virtual.run(SMALL, replicates=100, seed=8, uncertain=True)


def runs(success: float, low: float, high: float, difference: float) -> Runs:
    return Runs(
        100, 20, 20 + difference, difference, 4, (2.4, 2.5), success, low, high, (success,), 120, "", ()
    )


@pytest.mark.parametrize(
    ("given", "verdict", "words"),
    [
        (runs(0.9, 0.83, 0.95, 8), "go", "at least 0.8"),
        (runs(0.85, 0.77, 0.91, 8), "no-go", "more replicates"),
        (runs(0.5, 0.4, 0.6, 8), "no-go", "not shown to reach 0.8"),
        (runs(0.95, 0.9, 0.98, 3), "no-go", "below 5"),
    ],
)
def test_the_verdict_follows_its_rule_and_says_why(given: Runs, verdict: str, words: str) -> None:
    found = virtual.judged(Rule(0.8, 5.0), given)
    assert found.verdict == verdict
    assert any(words in reason for reason in found.reasons)
    assert "0.8" in found.rule


def test_readings_say_when_after_the_dose_they_were_taken() -> None:
    assert virtual.run(SMALL, replicates=1, seed=1).readings == "INR 12 h after the dose"
    model = virtual.run(replace(SMALL, endpoint="model"), replicates=1, seed=1)
    assert model.readings == "INR 0, 6, 12 and 18 h after the dose"


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("visits", lambda: TrialDesign(visits=(3,))),
        ("visits", lambda: TrialDesign(days=10, visits=(3, 10))),
        ("endpoint", lambda: TrialDesign(endpoint="guess")),  # type: ignore[arg-type]
        ("per_arm", lambda: TrialDesign(per_arm=1)),
        ("visit_hour", lambda: TrialDesign(visit_hour=24)),
        ("replicates", lambda: virtual.run(SMALL, replicates=0, seed=1)),
        ("dose", lambda: FixedDose(0)),
        ("highest", lambda: GuidedDose(lowest=2, highest=1)),
        ("potency", lambda: LotPotency("A", 98.5)),
        ("lot", lambda: LotPotency(" ", 1)),
        ("lots", lambda: Supply((LotPotency("A", 1), LotPotency("A", 0.9)))),
        ("least_probability", lambda: Rule(80)),
        ("range", lambda: endpoint.rosendaal([0, 1], np.ones((2, 1)), 3, 2)),
        ("inr", lambda: endpoint.rosendaal([0, 1, 2], np.ones((2, 1)))),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(field: str, call: object) -> None:
    assert callable(call)
    with pytest.raises(Malformed) as refused:
        call()
    assert refused.value.field == field


def recorded(seed: int = 7, potency: float = 0.97) -> TrialRecord:
    supply = Supply((LotPotency("00312345678906/L1", potency),))
    found = virtual.assess(SMALL, Rule(), replicates=20, seed=seed, supply=supply)
    return TrialRecord(
        question="Does dosing by genotype keep INR in range for longer?",
        context_of_use="choice of the dosing arm of a study in Han Chinese patients, not of a patient's dose",
        model="warfarin/xia-2024",
        code="1.4.0",
        seed=seed,
        data_hash=record.content_hash([cohort.HAN_CHINESE, supply]),
        design=SMALL,
        result={"power": found.power, "success": found.success},
        verdict=found.verdict,
    )


def test_a_run_repeated_has_the_same_id_and_any_change_another() -> None:
    one = recorded()
    assert len(one.trial_id) == 64
    assert recorded().trial_id == one.trial_id
    assert record.differences(one, recorded()) == ()
    assert "seed" in record.differences(one, recorded(seed=8))
    other = recorded(potency=0.9)
    assert other.trial_id != one.trial_id
    assert "data_hash" in record.differences(one, other)
    assert replace(one, context_of_use="another").trial_id != one.trial_id
    assert other.asked_id != one.asked_id
    assert replace(one, result={}).asked_id == one.asked_id
    assert replace(one, result={}).trial_id != one.trial_id


def test_a_record_reads_as_json_and_its_id_is_the_hash_of_what_is_read() -> None:
    import hashlib

    one = recorded()
    document = one.document()
    assert hashlib.sha256(document.encode()).hexdigest() == one.trial_id
    told = json.loads(document)
    assert told["design"]["per_arm"] == 25
    assert told["verdict"]["verdict"] in ("go", "no-go")
    assert list(told) == sorted(told)


def test_numbers_are_written_as_rfc_8785_says() -> None:
    # Values of the RFC's appendix B, and the usual ones.
    pairs = {
        0.0: "0",
        5e-324: "5e-324",
        1e21: "1e+21",
        9.999999999999997e22: "9.999999999999997e+22",
        999999999999999900000.0: "999999999999999900000",
        0.000001: "0.000001",
        9.999999999999997e-7: "9.999999999999997e-7",
        333333333.3333332: "333333333.3333332",
        -1.5: "-1.5",
        100.0: "100",
        0.1: "0.1",
    }
    assert record.canonical(-0.0) == "0"
    assert {number: record.canonical(number) for number in pairs} == pairs
    assert record.canonical({"b": [True, None], "a": "é\n", "😀": 1, "ﬀ": 2}) == (
        '{"a":"é\\n","b":[true,null],"😀":1,"ﬀ":2}'
    )


def test_what_has_no_place_in_a_record_is_refused() -> None:
    for value in (float("nan"), {"x": float("inf")}, object(), 2**60):
        with pytest.raises(Malformed):
            record.content_hash(value)
    with pytest.raises(Malformed) as refused:
        replace(recorded(), data_hash="abc")
    assert refused.value.field == "data_hash"
    with pytest.raises(Malformed) as refused:
        replace(recorded(), context_of_use="")
    assert refused.value.field == "context_of_use"


def test_a_joined_cohort_keeps_everybody() -> None:
    parts = [cohort.block(1, number) for number in range(2)]
    both: Patients = warfarin.joined(parts)
    assert len(both) == 2 * cohort.BLOCK
    assert both.age[cohort.BLOCK] == parts[1].age[0]
