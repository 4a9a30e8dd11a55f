"""The hospital's patients: what it records of them, and what only they feel."""

from __future__ import annotations

import random
from collections.abc import Set
from datetime import UTC, datetime, time, timedelta

from services.world.entities import Body, Subject
from services.world.worldgen import names
from services.world.worldgen.cdisc import Pilot

CONSENT = 0.90
ANSWERS = 0.96
COMPLAINT_IF_EXPOSED = 0.60
COMPLAINT_OTHERWISE = 0.08


def make_subjects(pilot: Pilot, seed: int, shift: timedelta) -> tuple[Subject, ...]:
    """The treated subjects, by pseudonym (the study's own order would tell who is who)."""
    subjects = [
        Subject(
            pseudonym=(person := names.pseudonym(seed, row.usubjid)),
            consent=random.Random(f"{seed}/consent/{person}").random() < CONSENT,
            age=row.age,
            sex=row.sex,
            arm=row.arm,
            at=datetime.combine(row.recorded + shift, time(1), UTC),
        )
        for row in pilot.subjects
    ]
    return tuple(sorted(subjects, key=lambda subject: subject.pseudonym))


def make_bodies(subjects: tuple[Subject, ...], seed: int, harmed: Set[str]) -> tuple[Body, ...]:
    """`harmed` are those who took material of a lot with a planted fault."""
    return tuple(_body(subject.pseudonym, seed, subject.pseudonym in harmed) for subject in subjects)


def _body(person: str, seed: int, harmed: bool) -> Body:
    draw = random.Random(f"{seed}/body/{person}")
    answers = draw.random() < ANSWERS
    return Body(person, answers, draw.random() < (COMPLAINT_IF_EXPOSED if harmed else COMPLAINT_OTHERWISE))
