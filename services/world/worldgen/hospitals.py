"""What each hospital knows of its patients, and what only they feel."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from services.world.entities import Body, FollowUp, Notice, Subject, Tube
from services.world.names import SITES, Names
from services.world.records import Change, Feed, Harm, Hospital
from services.world.sizes import Rates
from services.world.worldgen.effects import COMPLAINT_OTHERWISE
from services.world.worldgen.people import Person, Stay, patients

_CHANNELS = ("app", "phone", "letter")
_LANGUAGES = ("zh", "zh", "zh", "en")
_NEVER_READ = 0.05


class Hospitals:
    """`now` is when the runs begin: what changes later is told later."""

    def __init__(self, people: Iterable[Person], names: Names, now: datetime, rates: Rates) -> None:
        self._people, self._names, self._now, self._rates = tuple(people), names, now, rates

    def make(
        self,
        feeds: Mapping[str, Feed],
        harms: Iterable[Harm],
        follow_ups: tuple[FollowUp, ...],
        tubes: Mapping[str, tuple[Tube, ...]],
    ) -> tuple[Hospital, ...]:
        """One for each feed; all follow up alike."""
        risks: dict[str, float] = defaultdict(float)
        for harm in harms:
            risks[harm.pseudonym] = max(risks[harm.pseudonym], harm.risk)
        subjects: dict[str, list[Subject]] = {site: [] for site in feeds}
        changes: dict[str, list[Change]] = {site: [] for site in feeds}
        bodies: dict[str, list[Body]] = {site: [] for site in feeds}
        for person in self._people:
            for site, subject in self._course(person):
                if subject.at <= self._now:
                    subjects[site].append(subject)
                else:
                    changes[site].append(Change(subject.at - self._now, subject))
            for site, body in self._bodies(person, risks):
                bodies[site].append(body)
        # By pseudonym: the order of a study would tell who is who.
        return tuple(
            Hospital(
                site=site,
                name=SITES[site],
                subjects=tuple(sorted(subjects[site], key=lambda item: (item.pseudonym, item.at))),
                changes=tuple(sorted(changes[site], key=lambda item: (item.after, item.subject.pseudonym))),
                bodies=tuple(sorted(bodies[site], key=lambda body: body.pseudonym)),
                feed=feed,
                follow_ups=follow_ups,
                tubes=tubes.get(site, ()),
            )
            for site, feed in feeds.items()
        )

    def _course(self, person: Person) -> Iterable[tuple[str, Subject]]:
        """A person as the hospitals record them, one record after the other."""
        for place, stay in enumerate(person.stays):
            subject = self._subject(person, stay)
            yield stay.site, subject
            if place + 1 < len(person.stays):
                after = person.stays[place + 1]
                yield (
                    stay.site,
                    replace(subject, at=after.since, status="MOVED", moved_to=after.site),
                )
            elif person.ended and person.ending == "DECEASED":
                yield stay.site, replace(subject, at=person.ended, status="DECEASED")
            elif person.ended and person.consent:
                yield stay.site, replace(subject, at=person.ended, consent=False)

    def _subject(self, person: Person, stay: Stay) -> Subject:
        return Subject(
            pseudonym=self._names.pseudonym(stay.site, person.key),
            consent=person.consent,
            age=person.age,
            sex=person.sex,
            arm=person.arm,
            at=stay.since,
        )

    def _bodies(self, person: Person, risks: Mapping[str, float]) -> Iterable[tuple[str, Body]]:
        """One body, whatever it is called."""
        called = [(stay.site, self._names.pseudonym(stay.site, person.key)) for stay in person.stays]
        risk = max((risks[name] for _, name in called if name in risks), default=COMPLAINT_OTHERWISE)
        complaint = random.Random(self._names.draw("body", person.key)).random() < risk
        dead = person.ending == "DECEASED" and person.ended is not None and person.ended <= self._now
        reminders, gives_blood = self._ways(person)
        for site, name in called:
            yield site, Body(name, not (person.silent or dead), complaint, reminders, gives_blood)

    def _ways(self, person: Person) -> tuple[int, bool]:
        """How often somebody has to be reminded before they answer, and whether they have blood taken."""
        draw, rates = random.Random(self._names.draw("ways", person.key)), self._rates
        late = draw.random()
        twice, once = late < rates.reminded_twice, late < rates.reminded_twice + rates.reminded_once
        return 2 if twice else 1 if once else 0, draw.random() < rates.give_blood


def notices(people: Iterable[Person], names: Names) -> tuple[Notice, ...]:
    """How everybody would take a notice."""
    found = [_notice(person, stay, names) for person, stay in patients(people)]
    return tuple(sorted(found, key=lambda notice: (notice.site, notice.pseudonym)))


def _notice(person: Person, stay: Stay, names: Names) -> Notice:
    draw = random.Random(names.draw("notice", stay.site, person.key))
    channel, language = draw.choice(_CHANNELS), draw.choice(_LANGUAGES)
    read = timedelta(minutes=draw.randint(5, 2 * 24 * 60)) if draw.random() >= _NEVER_READ else None
    return Notice(stay.site, names.pseudonym(stay.site, person.key), channel, language, read)
