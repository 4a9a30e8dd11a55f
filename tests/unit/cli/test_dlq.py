"""`dlq`: which letters are shown, what is asked before anything is done, and what is said of the outcome."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.common.v1 import operations_pb2 as api
from services.cli import dlq, dlq_pages
from services.kit.errors import Invalid, Rejected, Retryable, Unknown
from tests.unit.cli import support
from tests.unit.cli.support import Bench

TOPIC = "pharmaloop.production.lot.v1"
OPEN, REDRIVE = api.DEAD_LETTER_STATE_OPEN, api.DEAD_LETTER_STATE_REDRIVE
DONE, DISCARDED = api.DEAD_LETTER_STATE_DONE, api.DEAD_LETTER_STATE_DISCARDED


def letter(offset: int, runner: str = "rnd.insights", at: int = 0, **fields: Any) -> api.DeadLetter:
    known: dict[str, Any] = {
        "letter": f"{runner}|{TOPIC}|2|{offset:020d}",
        "runner": runner,
        "state": OPEN,
        "reason": "HANDLER_FAILED",
        "description": "KeyError('x')",
        "topic": TOPIC,
        "partition": 2,
        "offset": offset,
        "key": "maker-1/item/granulate/G-1",
        "event_type": "pharmaloop.production.v1.LotHeld",
        "attempts": 1,
        "at": Timestamp(seconds=1_790_000_000 + (at or offset)),
    }
    return api.DeadLetter(**{**known, **fields})


class Service:
    """Keeps letters as a service does, a page of two at a time; what is redriven becomes `becomes`."""

    def __init__(self, bench: Bench, *letters: api.DeadLetter) -> None:
        self.bench = bench
        self.letters = {
            one.letter: one for one in (api.DeadLetter.FromString(x.SerializeToString()) for x in letters)
        }
        self.becomes: Callable[[api.DeadLetter], int] = lambda one: DONE
        bench.fake.answers |= {
            "ListDeadLetters": self.page,
            "RedriveDeadLetters": self.redrive,
            "DiscardDeadLetters": self.discard,
            "GetDeadLetter": self.get,
        }

    def _chosen(self, wanted: api.DeadLetterFilter) -> list[api.DeadLetter]:
        for id in wanted.letters:
            self._known(id)
        states = (wanted.state,) if wanted.state else (OPEN, REDRIVE)
        return [
            one
            for one in self.letters.values()
            if (one.letter in wanted.letters or not wanted.letters)
            and wanted.runner in ("", one.runner)
            and wanted.reason in ("", one.reason)
            and (one.state in states or (wanted.letters and not wanted.state))
        ]

    def _known(self, id: str) -> api.DeadLetter:
        if id not in self.letters:
            raise Unknown("UNKNOWN_LETTER", f"there is no letter {id!r}", "letter")
        return self.letters[id]

    def page(self, request: api.ListDeadLettersRequest) -> api.ListDeadLettersResponse:
        found = self._chosen(request.filter)
        begin = int(request.page_token or 0)
        more = "" if len(found) <= begin + 2 else str(begin + 2)
        answer = api.ListDeadLettersResponse(letters=found[begin : begin + 2], next_page_token=more)
        if request.filter.letters:
            answer = api.ListDeadLettersResponse(letters=found)
            self._move()
        return answer

    def _move(self) -> None:
        """The runner takes its time: a letter is processed after it was asked about once more."""
        for one in self.letters.values():
            if one.state == REDRIVE:
                one.state = self.becomes(one)  # type: ignore[assignment]
                one.attempts += one.state == OPEN

    def redrive(self, request: api.RedriveDeadLettersRequest) -> api.RedriveDeadLettersResponse:
        for one in (chosen := self._chosen(request.filter)):
            one.state = REDRIVE
        return api.RedriveDeadLettersResponse(letters=len(chosen))

    def discard(self, request: api.DiscardDeadLettersRequest) -> api.DiscardDeadLettersResponse:
        for one in (chosen := self._chosen(request.filter)):
            one.state, one.judged_why = DISCARDED, request.reason
        return api.DiscardDeadLettersResponse(letters=len(chosen))

    def get(self, request: api.GetDeadLetterRequest) -> api.GetDeadLetterResponse:
        one = self._known(request.letter)
        return api.GetDeadLetterResponse(
            letter=one,
            headers={"ce_id": "e-1"},
            event_json='{"lot": "G-1"}',
            value_bytes=7,
            value_sha256="ab",
        )

    @property
    def states(self) -> list[int]:
        return [one.state for one in self.letters.values()]


@pytest.fixture
def rnd(bench: Bench) -> Bench:
    """One service, rnd."""
    bench.services = ("rnd",)
    return bench


@pytest.fixture
def two(rnd: Bench, tmp_path: Path) -> Iterator[tuple[Service, Service]]:
    """rnd and traceability, each with letters of its own."""
    with support.bench(tmp_path / "other") as other:
        addresses = {"rnd": rnd.address, "traceability": other.address}
        rnd.environment["PHARMALOOP_ENDPOINTS"] = json.dumps(addresses)
        mine = Service(rnd, letter(1, at=50), letter(2, at=10), letter(3, at=30, reason="PARKED"))
        yield mine, Service(other, letter(9, "traceability.fold", at=20))


def offsets(document: Any) -> list[int]:
    return [one["offset"] for one in document["letters"]]


# -- list and show ----------------------------------------------------------


def test_letters_of_all_services_come_oldest_first(rnd: Bench, two: tuple[Service, Service]) -> None:
    document = rnd.json("dlq", "list")
    assert offsets(document) == [2, 9, 3, 1]
    assert document["unanswered"] == {}
    shown = rnd.run("dlq", "list").output
    assert "rnd.insights 3, traceability.fold 1" in shown
    assert "KeyError('x')" in shown


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--service", "rnd"], [2, 3, 1]),
        (["--runner", "traceability.fold"], [9]),
        (["--reason", "PARKED"], [3]),
        (["--state", "discarded"], []),
        (["--state", "open", "--runner", "rnd.insights", "--with-reason", "HANDLER_FAILED"], [2, 1]),
    ],
)
def test_a_list_keeps_to_its_filters(
    rnd: Bench, two: tuple[Service, Service], options: list[str], expected: list[int]
) -> None:
    assert offsets(rnd.json("dlq", "list", *options)) == expected


def test_a_runner_is_asked_of_its_own_service_only(rnd: Bench, two: tuple[Service, Service]) -> None:
    rnd.run("dlq", "list", "--runner", "traceability.fold")
    assert rnd.fake.requests == []
    result = rnd.run("dlq", "list", "--runner", "traceability.fold", "--service", "rnd")
    assert result.exit_code == 2
    assert "traceability.fold is no runner of rnd" in result.stderr


def test_a_list_that_a_service_is_missing_from_says_so(rnd: Bench) -> None:
    Service(rnd, letter(1))
    addresses = {"rnd": rnd.address, "loops": "127.0.0.1:1"}
    rnd.environment["PHARMALOOP_ENDPOINTS"] = json.dumps(addresses)
    result = rnd.run("dlq", "list", "--json")
    assert result.exit_code == 1
    assert offsets(json.loads(result.stdout)) == [1]
    assert list(json.loads(result.stdout)["unanswered"]) == ["loops"]
    assert "loops did not answer, its letters are missing here" in result.stderr
    refused = rnd.run("dlq", "discard", "--runner", "rnd.insights", "--reason", "x", "--yes")
    assert refused.exit_code == 0, "a service that is not asked is not missed"


def test_no_letter_is_no_error(rnd: Bench) -> None:
    Service(rnd)
    assert rnd.json("dlq", "list") == {"letters": [], "unanswered": {}}
    listed = rnd.run("dlq", "list").output
    assert listed.startswith("# Letters\n") or listed == "Letters: none\n"


def test_a_letter_is_shown_with_its_event_and_who_judged_it(rnd: Bench) -> None:
    judged = letter(7, state=DISCARDED, judged_by="li", judged_why="a [test] lot")
    Service(rnd, judged)
    document = rnd.json("dlq", "show", judged.letter)
    assert document["event"] == {"lot": "G-1"}
    assert (document["letter"]["judged_by"], document["letter"]["offset"]) == ("li", 7)
    assert document["headers"] == {"ce_id": "e-1"}
    short = f"rnd.insights|{TOPIC}|2|7"
    shown = rnd.run("dlq", "show", short)
    assert "a [test] lot" in shown.output, "the reason is shown as it was written"
    assert "KeyError('x')" in shown.output


@pytest.mark.parametrize("id", ["7", "rnd.insights", f"insights|{TOPIC}|2|7", f"rnd.insights|{TOPIC}|2|x"])
def test_what_is_no_letter_is_refused_before_anybody_is_asked(rnd: Bench, id: str) -> None:
    Service(rnd)
    for command in (["show", id], ["redrive", id, "--yes"], ["discard", id, "--reason", "x", "--yes"]):
        result = rnd.run("dlq", *command)
        assert result.exit_code == 2
        assert "is no letter" in result.stderr
    assert rnd.fake.requests == []


def test_an_unknown_letter_is_a_plain_sentence(rnd: Bench) -> None:
    Service(rnd)
    for command in (["show"], ["redrive", "--yes"]):
        result = rnd.run("dlq", *command, f"rnd.insights|{TOPIC}|2|7")
        assert result.exit_code == 1
        assert "there is no letter" in result.stderr


# -- redrive ----------------------------------------------------------------


def test_redrive_says_what_became_of_each(rnd: Bench) -> None:
    service = Service(rnd, letter(1), letter(2))
    service.becomes = lambda one: DONE if one.offset == 1 else OPEN
    result = rnd.run("--actor", "li", "dlq", "redrive", "--runner", "rnd.insights", "--yes")
    assert result.exit_code == 1, "one of them is open again"
    assert "2 letters to be processed again" in result.output
    assert "1 open again, 1 done" in result.output
    assert "HANDLER_FAILED: KeyError('x')" in result.output
    (request,) = rnd.fake.of("RedriveDeadLetters")
    assert list(request.filter.letters) == list(service.letters), "those that were shown, and no other"
    assert request.request_id
    assert set(rnd.fake.actors) == {"li"}


def test_redrive_succeeds_when_all_are_done(rnd: Bench) -> None:
    service = Service(rnd, letter(1), letter(2, reason="PARKED"), letter(3, state=DONE))
    document = rnd.json("dlq", "redrive", *service.letters, "--yes")
    assert (document["done"], document["open"], document["redrive"]) == (2, 0, 0)
    assert offsets(document) == [1, 2]
    assert rnd.run("dlq", "redrive", *service.letters, "--yes").exit_code == 0, "nothing waits any more"


def test_redrive_does_not_wait_for_ever(rnd: Bench) -> None:
    service = Service(rnd, letter(1))
    service.becomes = lambda one: REDRIVE
    result = rnd.run("dlq", "redrive", "--runner", "rnd.insights", "--yes", "--timeout", "0.1")
    assert result.exit_code == 1
    assert "1 not processed yet" in result.output
    assert "is down, or its view is being rebuilt" in result.output


@pytest.mark.parametrize("command", [["redrive"], ["discard", "--reason", "a test lot"]])
def test_nothing_is_done_without_a_yes(rnd: Bench, command: list[str]) -> None:
    service = Service(rnd, letter(1), letter(2))
    result = rnd.run("dlq", *command, "--runner", "rnd.insights", typed="n\n")
    assert result.exit_code == 1
    assert "2 letters" in result.stderr
    assert f"rnd.insights|{TOPIC}|2|1\n" in result.stderr, "it shows what it asks about"
    assert service.states == [OPEN, OPEN]
    assert rnd.run("dlq", *command, "--runner", "rnd.insights", typed="y\n").exit_code == 0
    assert OPEN not in service.states


@pytest.mark.parametrize("command", [["redrive"], ["discard", "--reason", "a test lot"]])
def test_everything_at_once_is_not_a_choice(rnd: Bench, command: list[str]) -> None:
    Service(rnd, letter(1))
    for more in ([], ["--service", "rnd"]):
        result = rnd.run("dlq", *command, "--yes", *more)
        assert result.exit_code == 2
        assert "name letters, or choose them by --runner or a reason" in result.stderr
    assert rnd.fake.requests == []
    assert "say --yes" in rnd.run("dlq", *command, "--runner", "rnd.insights", "--json").stderr


def test_a_refusal_of_the_service_is_passed_on(rnd: Bench) -> None:
    Service(rnd, letter(1), letter(2))

    def refuse(request: Any) -> Any:
        raise Invalid("OUT_OF_ORDER", "letter 1 stands before letter 2 on its key", "filter")

    rnd.fake.answers["RedriveDeadLetters"] = refuse
    result = rnd.run("dlq", "redrive", letter(2).letter, "--yes")
    assert result.exit_code == 1
    assert "stands before" in result.stderr
    assert "OUT_OF_ORDER" in result.stderr


def test_letters_of_several_services_go_each_to_its_own(rnd: Bench, two: tuple[Service, Service]) -> None:
    mine, theirs = two
    ids = [next(iter(mine.letters)), next(iter(theirs.letters))]
    assert rnd.run("dlq", "redrive", *ids, "--yes").exit_code == 0
    assert mine.states == [DONE, OPEN, OPEN]
    assert theirs.states == [DONE]


# -- discard ----------------------------------------------------------------


def test_discard_needs_a_reason_and_records_it(rnd: Bench) -> None:
    service = Service(rnd, letter(1), letter(2, reason="PARKED"))
    assert rnd.run("dlq", "discard", "--runner", "rnd.insights", "--yes").exit_code == 2
    blank = rnd.run("dlq", "discard", "--runner", "rnd.insights", "--reason", " ", "--yes")
    assert blank.exit_code == 2
    assert service.states == [OPEN, OPEN]
    result = rnd.run("dlq", "discard", "--with-reason", "PARKED", "--reason", "a test lot", "--yes")
    assert result.exit_code == 0
    assert "1 letter discarded: a test lot" in result.output
    assert service.states == [OPEN, DISCARDED]
    assert rnd.fake.of("DiscardDeadLetters")[0].reason == "a test lot"


# -- many -------------------------------------------------------------------


def of_key(key: str, *offsets: int) -> list[api.DeadLetter]:
    return [letter(offset, key=key) for offset in offsets]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of four letters."""
    monkeypatch.setattr(dlq_pages, "_MANY", 4)


MANY = [*of_key("a", 1, 4, 7), *of_key("b", 2, 5), *of_key("c", 3, *range(8, 14)), *of_key("d", 6)]
DEAL = pytest.mark.parametrize(
    ("command", "method", "outcome"),
    [
        (["redrive", "--timeout", "0.1"], "RedriveDeadLetters", DONE),
        (["discard", "--reason", "a test lot"], "DiscardDeadLetters", DISCARDED),
    ],
    ids=["redrive", "discard"],
)


def pages(bench: Bench, method: str) -> list[list[int]]:
    """Offsets of the letters that each request was about."""
    return [[int(id.rpartition("|")[2]) for id in one.filter.letters] for one in bench.fake.of(method)]


def refused_from(service: Service, method: str, number: int, error: Exception) -> Callable[[], None]:
    """From the request with this number on nothing is done; gives what mends it."""
    real, left = service.bench.fake.answers[method], [number]

    def answer(request: Any) -> Any:
        left[0] -= 1
        if left[0] <= 0:
            raise error
        return real(request)

    service.bench.fake.answers[method] = answer
    return lambda: service.bench.fake.answers.update({method: real})


@DEAL
def test_many_go_page_by_page_and_a_key_stays_whole(
    rnd: Bench, small: None, command: list[str], method: str, outcome: int
) -> None:
    service = Service(rnd, *MANY)
    result = rnd.run("dlq", *command, "--runner", "rnd.insights", "--yes")
    assert result.exit_code == 0
    assert pages(rnd, method) == [[1, 4, 7], [2, 5], [3, 8, 9, 10, 11, 12, 13], [6]]
    assert set(service.states) == {outcome}
    assert "13 letters" in result.output


@DEAL
def test_what_is_broken_off_in_the_middle_says_where_it_stands_and_goes_on_when_given_again(
    rnd: Bench, small: None, command: list[str], method: str, outcome: int
) -> None:
    service = Service(rnd, *MANY)
    mend = refused_from(service, method, 3, Retryable("MongoDB did not answer"))
    broken = rnd.run("dlq", *command, "--runner", "rnd.insights", "--yes")
    assert broken.exit_code == 3
    assert "MongoDB did not answer" in broken.stderr
    assert "of 13 letters 5 are dealt with, 7 were just asked for and may be so too, 1 were not begun" in (
        broken.stderr
    )
    assert "give the same command again: it goes on with the letters that wait" in broken.stderr
    assert "5 done" in broken.output or "5 letters discarded" in broken.output
    assert service.states.count(outcome) == 5
    mend()
    rnd.fake.requests.clear()
    assert rnd.run("dlq", *command, "--runner", "rnd.insights", "--yes").exit_code == 0
    assert set(service.states) == {outcome}
    asked = {offset for page in pages(rnd, method) for offset in page}
    assert asked == {3, *range(6, 14)} - {7}, "what was dealt with was asked for again"


def test_a_refusal_in_the_middle_keeps_its_reason(rnd: Bench, small: None) -> None:
    service = Service(rnd, *MANY)
    refused_from(service, "DiscardDeadLetters", 2, Rejected("UNDER_WAY", "letter 2 is on its way", "filter"))
    result = rnd.run("dlq", "discard", "--runner", "rnd.insights", "--reason", "x", "--yes", "--json")
    assert result.exit_code == 1
    assert [int(id.rpartition("|")[2]) for id in json.loads(result.stdout)["letters"]] == [1, 4, 7]
    error = json.loads(result.stderr)["error"]
    assert error["reason"] == "UNDER_WAY"
    assert "3 are dealt with" in error["message"]
    assert "then give the same command again" in error["next"]


def test_a_redrive_whose_runner_does_not_come_asks_for_no_more(rnd: Bench, small: None) -> None:
    service = Service(rnd, *MANY)
    service.becomes = lambda one: REDRIVE if one.key == "b" else DONE
    result = rnd.run("dlq", "redrive", "--runner", "rnd.insights", "--yes", "--timeout", "0.1")
    assert result.exit_code == 1
    assert "2 not processed yet, 3 done, 8 left as they were" in result.output
    assert "give the same command again" in result.output
    assert pages(rnd, "RedriveDeadLetters") == [[1, 4, 7], [2, 5]]


class Looks:
    """Time that passes with each pause, a second at a time."""

    now = 0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += 1


def test_the_time_to_wait_begins_anew_with_each_that_ends(
    rnd: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks()
    monkeypatch.setattr(dlq, "time", looks)
    service = Service(rnd, *of_key("a", *range(1, 6)))
    service.becomes = lambda one: DONE if one.offset * 4 <= looks.now else REDRIVE
    result = rnd.run("dlq", "redrive", "--runner", "rnd.insights", "--yes", "--timeout", "6")
    assert result.exit_code == 0, result.output
    assert looks.now > 20


def test_somebody_who_interrupts_hears_what_is_done(
    rnd: Bench, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, real = Service(rnd, *MANY), dlq._wait

    def wait(session: Any, ids: tuple[str, ...], *more: Any) -> Any:
        if len(ids) == 2:
            raise KeyboardInterrupt
        return real(session, ids, *more)

    monkeypatch.setattr(dlq, "_wait", wait)
    result = rnd.run("dlq", "redrive", "--runner", "rnd.insights", "--yes")
    assert result.exit_code == 2
    assert "it was interrupted; of 13 letters 3 are dealt with, 2 were just asked for" in result.stderr
    assert service.states.count(DONE) == 3


def test_of_many_outcomes_those_are_shown_that_somebody_has_to_look_at(rnd: Bench) -> None:
    service = Service(rnd, *(letter(n, key=str(n)) for n in range(1, 61)))
    service.becomes = lambda one: OPEN if one.offset % 2 else DONE
    result = rnd.run("dlq", "redrive", "--runner", "rnd.insights", "--yes")
    assert f"{TOPIC}|2|1\t" in result.output
    assert f"{TOPIC}|2|2\t" not in result.output
    assert "... and 10 more: 'pharmaloop dlq list' shows them" in result.output
    assert "30 open again, 30 done" in result.output
