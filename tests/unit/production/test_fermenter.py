"""The fermenter's golden run on simulated penicillin batches, with the faults that the world plants."""

from __future__ import annotations

from functools import cache

import pytest

from services.production.domain.golden import GoldenModel, train
from services.production.domain.maturity import Run
from services.production.domain.monitor import Alarm, judge
from services.production.domain.recipes import FERMENTER, recipe_for
from services.world import fermentations
from services.world.fermentations import FAULTS, HARMLESS, SAMPLE, SAMPLES, TAGS, Trouble, profile
from services.world.names import Names
from services.world.worldgen.lines import conditions

CAMPAIGN = 24
ONSETS = (50, 70)


def recorded(number: int, trouble: Trouble | None = None) -> Run:
    told = profile(conditions(Names(7, "test"), number), trouble)
    times = tuple(place * SAMPLE.total_seconds() for place in range(SAMPLES))
    good = tuple((True,) * SAMPLES for _ in told)
    return Run(f"{number:03}", tuple(told), times, tuple(tuple(values) for values in told.values()), good)


@cache
def model() -> GoldenModel:
    return train("penicillin", FERMENTER, [recorded(number) for number in range(CAMPAIGN)])


@cache
def alarms(number: int, kind: str = "", onset: int = 0) -> tuple[Alarm, ...]:
    trouble = Trouble(kind, FAULTS[kind].size, onset) if kind else None
    return judge(model(), {}, recorded(number, trouble))


def test_its_tags_are_the_plants() -> None:
    assert recipe_for([tag.name for tag in TAGS]) is FERMENTER
    assert set(FERMENTER.tags) == {tag.name for tag in TAGS if not tag.set_point}


def test_most_unseen_batches_are_quiet() -> None:
    unseen = range(CAMPAIGN, CAMPAIGN + 20)
    assert sum(bool(alarms(number)) for number in unseen) <= 5


@pytest.mark.parametrize("onset", ONSETS)
@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_every_kind_of_fault_is_found_by_a_tag_that_shows_it(kind: str, onset: int) -> None:
    """A contaminant has to grow first: 30 hours are 12 samples; everything else shows within five."""
    found = [alarm for alarm in alarms(100, kind, onset) if alarm.tag in FAULTS[kind].tags]
    assert found
    delay = round(found[0].detected / SAMPLE.total_seconds()) - onset
    assert 0 <= delay <= (12 if kind == "contamination" else 5)


def test_a_bad_sensor_leaves_the_process_alone() -> None:
    for kind in HARMLESS:
        batch = conditions(Names(7, "test"), 100)
        plain, read = profile(batch), profile(batch, Trouble(kind, FAULTS[kind].size, 50))
        assert [tag for tag in plain if plain[tag] != read[tag]] == [FAULTS[kind].tags[0]]


def test_a_contaminated_batch_breathes_more_and_a_starved_one_grows_less() -> None:
    batch = conditions(Names(7, "test"), 100)
    plain = profile(batch)
    for kind, tag, more in (("contamination", "CarbonDioxide", True), ("feed-loss", "Biomass", False)):
        read = profile(batch, Trouble(kind, FAULTS[kind].size, 50))
        assert read[tag][:50] == pytest.approx(plain[tag][:50], rel=1e-5)
        assert (read[tag][-1] > 1.1 * plain[tag][-1]) is more
        assert (read[tag][-1] < 0.9 * plain[tag][-1]) is not more


def test_the_same_batch_reads_the_same() -> None:
    batch = conditions(Names(7, "test"), 3)
    assert profile(batch) == profile(batch)
    assert len(profile(batch)["PH"]) == fermentations.SAMPLES
