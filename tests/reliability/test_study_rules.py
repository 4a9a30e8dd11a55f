"""The rules of studies themselves: a right history breaks none, and each planted wrong is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.message import Message

from pharmaloop.exchange.v1 import events_pb2 as exchange
from services.kit.envelope import Event
from tests.reliability.study_rules import rules
from tests.unit.exchange.hospitals import ROWS, SITES, TERMS, data, pooled

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
STUDY, JOB = "s1", "j1"
History = list[Any]
SHARES = (0.25, 0.25, 0.5)


def right() -> History:
    """A study that is answered, and valued with everybody's consent."""
    of: dict[str, Any] = {"study": STUDY, "job": JOB}
    answer = exchange.InsightPublished(insight="i1", **of, sites=SITES)
    numbers = zip(("intercept", *TERMS), *pooled([data(site) for site in SITES]), strict=True)
    for term, value, error in numbers:
        answer.effects.add(term=term, standard_error=error).estimate.value = value
    return [
        exchange.StudyRequested(study=STUDY, sites=SITES, valued=True),
        *(exchange.StudyApproved(study=STUDY, site=site, valuation=True) for site in SITES),
        exchange.JobOpened(**of, participants=SITES),
        exchange.JobAudited(**of, rounds=[exchange.RoundRecord(round=1, participants=SITES)]),
        answer,
        *(
            exchange.ContributionMetered(**of, site=site, valued=True, share=share)
            for site, share in zip(SITES, SHARES, strict=True)
        ),
    ]


def broken(history: History) -> list[str]:
    """The names of the rules that the history breaks."""
    events = [
        Event(id=f"e{n}", source="/svc/exchange/study", subject=STUDY, time=NOON, message=message, key=STUDY)
        for n, message in enumerate(history)
    ]
    return [name for name, rule in rules(ROWS).items() if list(rule(events))]


def test_a_right_history_breaks_no_rule() -> None:
    assert broken(right()) == []


def _of(history: History, kind: type[Message]) -> list[Any]:
    return [message for message in history if isinstance(message, kind)]


def _metered_twice(history: History) -> None:
    history.append(history[-1])


def _one_not_metered(history: History) -> None:
    del history[-1]


def _answered_and_expired(history: History) -> None:
    history.append(exchange.StudyExpired(study=STUDY))


def _computed_after_its_end(history: History) -> None:
    history.append(exchange.JobOpened(study=STUDY, job="j2", participants=SITES))


def _answered_before_the_record(history: History) -> None:
    history.remove(_of(history, exchange.JobAudited)[0])


def _a_sum_over_two(history: History) -> None:
    del _of(history, exchange.JobAudited)[0].rounds[0].participants[2]


def _another_number(history: History) -> None:
    _of(history, exchange.InsightPublished)[0].effects[1].estimate.value += 1e-6


def _valued_against_an_owner(history: History) -> None:
    _of(history, exchange.StudyApproved)[2].valuation = False


def _valued_unasked(history: History) -> None:
    _of(history, exchange.StudyRequested)[0].valued = False


def _shares_of_more_than_all(history: History) -> None:
    history[-1].share = 0.7


def _one_site_unvalued(history: History) -> None:
    history[-1].valued, history[-1].not_valued = False, "EVALUATOR_AWAY"


def _an_unknown_reason(history: History) -> None:
    for one in _of(history, exchange.ContributionMetered):
        one.valued, one.not_valued = False, "NO_IDEA"


@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (_metered_twice, "answers are on record"),
        (_one_not_metered, "answers are on record"),
        (_answered_before_the_record, "answers are on record"),
        (_a_sum_over_two, "answers are on record"),
        (_answered_and_expired, "a study ends once"),
        (_computed_after_its_end, "a study ends once"),
        (_another_number, "an answer is that of all rows"),
        (_valued_against_an_owner, "contributions are valued as agreed"),
        (_valued_unasked, "contributions are valued as agreed"),
        (_shares_of_more_than_all, "contributions are valued as agreed"),
        (_one_site_unvalued, "contributions are valued as agreed"),
        (_an_unknown_reason, "contributions are valued as agreed"),
    ],
)
def test_what_is_planted_is_found(plant: Callable[[History], None], rule: str) -> None:
    history = right()
    plant(history)
    assert rule in broken(history)
