"""The patients: what they agree to, what becomes of them, and what faulty material does to them."""

from __future__ import annotations

from math import log
from statistics import median, stdev

import pytest

from services.world.genealogy import descendants, outputs
from services.world.records import World
from services.world.worldgen.effects import COMPLAINT_OTHERWISE, EFFECTS
from services.world.worldgen.observations import USUAL
from services.world.worldgen.vocabulary import ALT, CRP


def test_consent_is_refused_and_withdrawn_at_the_stated_rates(whole: World) -> None:
    first: dict[str, bool] = {}
    withdrew = 0
    for hospital in whole.hospitals[1:]:
        for subject in (*hospital.subjects, *(change.subject for change in hospital.changes)):
            before = first.setdefault(subject.pseudonym, subject.consent)
            withdrew += before and not subject.consent
    refused = sum(not consent for consent in first.values()) / len(first)
    assert refused == pytest.approx(0.08, abs=0.015)
    assert withdrew / len(first) == pytest.approx(0.04 * 0.92, abs=0.01)


def test_who_moves_is_a_patient_of_the_other_hospital_under_another_name(whole: World) -> None:
    known = {hospital.site: {body.pseudonym for body in hospital.bodies} for hospital in whole.hospitals}
    moves = [
        (hospital.site, subject)
        for hospital in whole.hospitals
        for subject in (*hospital.subjects, *(change.subject for change in hospital.changes))
        if subject.status == "MOVED"
    ]
    assert 30 < len(moves) < 100
    for site, subject in moves:
        assert subject.moved_to not in ("", site)
        assert subject.pseudonym not in known[subject.moved_to]
        given = [item for item in whole.dispenses if item.pseudonym == subject.pseudonym]
        assert all(item.at < subject.at and item.site == site for item in given)
    everybody = [name for names in known.values() for name in names]
    assert len(everybody) == len(set(everybody))


def test_nobody_receives_anything_after_their_death(whole: World) -> None:
    for hospital in whole.hospitals[1:]:  # the study's own dates are as they are
        died = {one.pseudonym: one.at for one in hospital.subjects if one.status == "DECEASED"}
        answers = {body.pseudonym: body.answers for body in hospital.bodies}
        assert died
        assert not any(answers[name] for name in died)
        assert all(item.at <= died.get(item.pseudonym, item.at) for item in whole.dispenses)


def test_who_took_what_is_the_walk_upwards(world: World) -> None:
    """From each pack up to everything inside, the other way than the generator walks."""
    made = outputs(world.materials)
    faulty = {lot.lot for line in world.lines for lot in line.lots if lot.faulty}
    below = {lot: descendants(lot, made) for lot in faulty}
    truly = {item.dispense: item.lot for item in world.opened}
    untouched = {item.dispense.dispense for item in world.returns() if not item.opened}
    expected = {
        (item.site, item.pseudonym, lot)
        for item in world.dispenses
        if item.pseudonym and item.dispense not in untouched
        for lot in faulty
        if truly.get(item.dispense, item.lot) in below[lot]
    }
    assert {(harm.site, harm.pseudonym, harm.lot) for harm in world.harms} == expected


def test_complaints_follow_the_worst_that_somebody_took(whole: World) -> None:
    worst: dict[str, float] = {}
    for harm in whole.harms:
        worst[harm.pseudonym] = max(worst.get(harm.pseudonym, 0.0), harm.risk)
    bodies = [body for hospital in whole.hospitals for body in hospital.bodies]
    for risk in {*worst.values(), COMPLAINT_OTHERWISE}:
        asked = [b for b in bodies if worst.get(b.pseudonym, COMPLAINT_OTHERWISE) == risk]
        if len(asked) >= 100:
            spread = (risk * (1 - risk) / len(asked)) ** 0.5
            assert sum(b.complaint for b in asked) / len(asked) == pytest.approx(risk, abs=4 * spread)


def test_contamination_harms_most_and_a_bad_sensor_nobody() -> None:
    risks = {kind: effect.risk for kind, effect in EFFECTS.items()}
    assert max(risks, key=risks.__getitem__) == "contamination"
    assert risks["contamination"] == 0.60
    assert risks["sensor-drift"] == COMPLAINT_OTHERWISE == 0.08
    assert not EFFECTS["sensor-drift"].labs


@pytest.mark.parametrize(("kind", "code"), [("contamination", CRP), ("temperature-drift", ALT)])
def test_values_of_the_harmed_are_moved_by_the_stated_factor(whole: World, kind: str, code: str) -> None:
    factor = EFFECTS[kind].labs[code]
    harmed = {harm.pseudonym for harm in whole.harms if harm.kind == kind}
    moved = {harm.pseudonym for harm in whole.harms if EFFECTS[harm.kind].labs.get(code, 1.0) > factor}
    touched = {harm.pseudonym for harm in whole.harms if code in EFFECTS[harm.kind].labs}
    values = [item for item in whole.observations if item.code == code and item.site != "hospital-a"]
    theirs = median(item.value for item in values if item.pseudonym in harmed - moved)
    others = median(item.value for item in values if item.pseudonym not in touched)
    assert theirs / others == pytest.approx(factor, rel=0.15)


@pytest.mark.parametrize(("kind", "code"), [("DryerTemp", ALT), ("contamination", CRP)])
def test_the_blood_of_the_harmed_shows_the_planted_factor(whole: World, kind: str, code: str) -> None:
    """By a comparison of people, not of what the truth says of each; sound people differ as stated."""
    harmed = {(harm.site, harm.pseudonym) for harm in whole.harms if harm.kind == kind}
    touched = {(harm.site, harm.pseudonym) for harm in whole.harms if EFFECTS[harm.kind].labs.get(code)}
    bodies = {one.pseudonym for hospital in whole.hospitals for one in hospital.bodies}
    theirs, others = [], []
    for one in whole.blood:
        assert one.pseudonym in bodies
        if one.code == code:
            who = (one.site, one.pseudonym)
            if who in harmed:
                theirs.append(one.value)
            elif who not in touched:
                others.append(one.value)
    assert median(theirs) / median(others) == pytest.approx(EFFECTS[kind].labs[code], rel=0.15)
    middle, spread, _ = USUAL[code]
    assert median(others) == pytest.approx(middle, rel=0.05)
    assert stdev(log(value) for value in others) == pytest.approx(spread, rel=0.05)


def test_who_moves_keeps_their_blood_and_their_ways(whole: World) -> None:
    """One body under two names: what is read in it, and after how many reminders it answers."""
    blood: dict[str, list[float]] = {}
    for one in whole.blood:
        blood.setdefault(one.pseudonym, []).append(one.usual)
    ways = {
        body.pseudonym: (body.complaint, body.reminders, body.gives_blood)
        for hospital in whole.hospitals
        for body in hospital.bodies
    }
    by_blood: dict[tuple[float, ...], list[str]] = {}
    for name, values in blood.items():
        by_blood.setdefault(tuple(values), []).append(name)
    twice = [names for names in by_blood.values() if len(names) == 2]
    moved = {
        subject.pseudonym
        for hospital in whole.hospitals
        for subject in (*hospital.subjects, *(change.subject for change in hospital.changes))
        if subject.status == "MOVED"
    }
    assert len(twice) == len(moved) > 30
    for here, there in twice:
        assert {here, there} & moved
        assert ways[here] == ways[there]


def test_reminders_are_needed_at_the_stated_rates(whole: World) -> None:
    bodies = [body for hospital in whole.hospitals for body in hospital.bodies]
    for reminders, rate in ((1, 0.06), (2, 0.02)):
        share = sum(body.reminders == reminders for body in bodies) / len(bodies)
        assert share == pytest.approx(rate, abs=4 * (rate / len(bodies)) ** 0.5)


def test_every_finding_lies_in_the_past_and_is_somebodys(whole: World) -> None:
    known = {(hospital.site, body.pseudonym) for hospital in whole.hospitals for body in hospital.bodies}
    assert all(item.at < whole.anchor for item in whole.observations)
    assert {(item.site, item.pseudonym) for item in whole.observations} <= known
    assert {(item.site, item.pseudonym) for item in whole.notices} == known
