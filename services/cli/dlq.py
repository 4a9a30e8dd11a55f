"""`dlq`: the records that no runner could process, and what becomes of them.

A letter's id begins with its runner, and a runner's name with its service. A
list that a service is missing from says so: nobody may take it for the whole.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click
from rich.console import Console

from pharmaloop.common.v1 import operations_pb2 as api
from services.cli.dlq_pages import Moved, Page, in_turn
from services.cli.nouns import DLQ
from services.cli.plain import iso, plain, word
from services.cli.processes import known_as, own, process_of, service_of
from services.cli.session import Failure, Session
from services.cli.tables import console, table
from services.kit.ids import new_id

C = TypeVar("C", bound=Callable[..., Any])
_STATES = ("open", "redrive", "done", "discarded")
_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.2
#: So much longer between two looks for each letter that is looked at.
_POLL_EACH = 0.001
#: Ids that one list names.
_MANY = 500
#: Letters shown before somebody is asked about them.
_SHOWN = 20
_ID = re.compile(
    r"(?P<service>[^.|]+)\.(?P<runner>[^|]+)\|(?P<topic>[^|]+)\|(?P<partition>\d+)\|(?P<offset>\d+)"
)


class LetterArgument(click.ParamType):
    """An id as `dlq list` shows it; the offset may be written without its zeros."""

    name = "letter"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        found = _ID.fullmatch(str(value))
        if not found:
            self.fail(
                f"{value!r} is no letter: give runner|topic|partition|offset in quotes, as "
                "'pharmaloop dlq list' shows it",
                param,
                ctx,
            )
        place = f"{found['topic']}|{int(found['partition'])}|{int(found['offset']):020d}"
        return f"{found['service']}.{found['runner']}|{place}"


LETTER = LetterArgument()


@dataclass(frozen=True)
class Wanted:
    """Which letters a command is about; what is empty does not narrow."""

    letters: tuple[str, ...] = ()
    service: str = ""
    runner: str = ""
    reason: str = ""
    state: str = ""

    @property
    def narrows(self) -> bool:
        return bool(self.letters or self.runner or self.reason)

    def of(self, letters: Iterable[str] = ()) -> api.DeadLetterFilter:
        state = f"DEAD_LETTER_STATE_{self.state.upper() or 'UNSPECIFIED'}"
        return api.DeadLetterFilter(
            letters=[own(letter) for letter in letters],
            runner=own(self.runner),
            reason=self.reason,
            state=state,
        )

    def processes(self, session: Session) -> list[str]:
        """The processes to ask."""
        by_runner = process_of(self.runner) if self.runner else ""
        if by_runner and self.service and self.service not in (by_runner, service_of(by_runner)):
            raise Failure(f"{self.runner} is no runner of {self.service}: give one of --runner and --service")
        if self.letters:
            return sorted({process_of(letter) for letter in self.letters})
        if by_runner or not self.service:
            return [by_runner] if by_runner else sorted(session.endpoints.grpc)
        known = [name for name in sorted(session.endpoints.grpc) if service_of(name) == self.service]
        return known or [self.service]


@dataclass
class Found:
    """Letters of several services, the oldest first, and the services that did not answer."""

    letters: list[api.DeadLetter] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        return [letter.letter for letter in self.letters]

    def document(self) -> dict[str, Any]:
        return {"letters": [plain(letter) for letter in self.letters], "unanswered": self.silent}

    def tell_silent(self) -> None:
        for service, why in self.silent.items():
            click.echo(f"pharmaloop: {service} did not answer, its letters are missing here: {why}", err=True)
        if self.silent:
            click.echo("  next: 'pharmaloop status' shows who answers; then list the letters again", err=True)


def find(session: Session, wanted: Wanted) -> Found:
    """Ask the services for their letters."""
    processes = wanted.processes(session)
    for process in processes:
        session.channel(process)  # made here, for the threads share them
    found = Found()
    with ThreadPoolExecutor(len(processes) or 1) as pool:
        for process, answer in zip(
            processes, pool.map(lambda p: _ask(session, p, wanted), processes), strict=True
        ):
            if isinstance(answer, Failure):
                if len(processes) == 1:
                    raise answer
                found.silent[process] = answer.message
            else:
                found.letters += answer
    found.letters.sort(key=lambda letter: (letter.at.ToNanoseconds(), letter.letter))
    return found


def _ask(session: Session, process: str, wanted: Wanted) -> list[api.DeadLetter] | Failure:
    stub = session.operations_of(process)
    letters: list[api.DeadLetter] = []
    try:
        mine = [letter for letter in wanted.letters if process_of(letter) == process]
        for some in _parts(mine) if mine else [()]:
            request = api.ListDeadLettersRequest(filter=wanted.of(some))
            for page in session.pages(stub.ListDeadLetters, request):
                letters += (_named(process, letter) for letter in page.letters)
    except Failure as error:
        return error
    return letters


def _named(process: str, letter: api.DeadLetter) -> api.DeadLetter:
    """The letter under the name that it has here."""
    letter.letter, letter.runner = known_as(process, letter.letter), known_as(process, letter.runner)
    return letter


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _MANY):
        yield ids[start : start + _MANY]


# -- the commands ---------------------------------------------------------


def _narrowing(command: C) -> C:
    """The options that choose letters."""
    by_service = click.option("--service", default="", help="Only this service's letters.")
    by_runner = click.option("--runner", default="", help="Only letters of this runner (service.name).")
    return by_runner(by_service(command))


def _reason(*more: str) -> Callable[[C], C]:
    return click.option(
        "--with-reason", *more, "reason", default="", help="Only letters dead for this reason."
    )


@DLQ.verb("list", "", "--runner rnd.insights --state open", watched=True)
@_narrowing
@_reason("--reason")
@click.option("--state", type=click.Choice(_STATES), default=None, help="Not given: those that wait.")
@click.pass_context
def list_letters(context: click.Context, service: str, runner: str, reason: str, state: str | None) -> None:
    """List the letters of all services, the oldest first."""
    session: Session = context.obj
    found = find(session, Wanted((), service, runner, reason, state or ""))
    session.show(found.document(), lambda out: _print(out, found.letters))
    found.tell_silent()
    if found.silent:
        context.exit(1)


def _print(out: Console, letters: list[api.DeadLetter], most: int = 0) -> None:
    """Each letter by its id alone on a line, to be copied; its story below."""
    if not letters:
        out.print(table("Letters", ["letter", "state", "reason"], []))
        return
    for letter in letters[: most or len(letters)]:
        tries = "once" if letter.attempts == 1 else f"{letter.attempts} times"
        event = letter.event_type.rpartition(".")[2] or "a record of no type"
        out.print(short(letter.letter), style="bold")
        told = (
            f"{_state(letter)} since {iso(letter.at) or '-'}, tried {tries}: {event} of {letter.key or '-'}"
        )
        out.print(f"    {told}\n    {letter.reason}  {letter.description}", markup=False)
    if most and len(letters) > most:
        out.print(f"... and {len(letters) - most} more")
    counted = Counter(letter.runner for letter in letters)
    out.print("\n" + ", ".join(f"{runner} {n}" for runner, n in sorted(counted.items())))


def short(letter: str) -> str:
    """A letter's id without the zeros before its offset, as people type it."""
    place, _, offset = letter.rpartition("|")
    return f"{place}|{int(offset)}"


def _state(letter: api.DeadLetter) -> str:
    return word(api.DeadLetterState.Name(letter.state), "DEAD_LETTER_STATE")


@DLQ.verb("show", "'rnd.insights|pharmaloop.production.capa.v1|0|17'", watched=True)
@click.argument("letter", type=LETTER)
@click.pass_obj
def show(session: Session, letter: str) -> None:
    """Show LETTER: why it is dead, what became of it, its headers and its event."""
    process = process_of(letter)
    stub = session.operations_of(process)
    answer = session.call(stub.GetDeadLetter, api.GetDeadLetterRequest(letter=own(letter)))
    _named(process, answer.letter)
    event = json.loads(answer.event_json) if answer.event_json else None
    document = {**plain(answer), "event": event}
    del document["event_json"]

    def people(out: Console) -> None:
        one = answer.letter
        out.print(short(one.letter), style="bold")
        out.print(f"state      {_state(one)}  after {one.attempts} tries, since {iso(one.at)}", markup=False)
        out.print(f"reason     {one.reason}  {one.description}", markup=False)
        if one.judged_by:
            told = f"judged     {one.judged_by}  {iso(one.judged_at)}  {one.judged_why}"
            out.print(told, markup=False)
        out.print(f"key        {one.key or '-'}", markup=False)
        out.print(f"value      {answer.value_bytes} bytes  sha256 {answer.value_sha256}")
        for name, text in sorted(answer.headers.items()):
            out.print(f"header     {name}  {text}", markup=False)
        shown = json.dumps(event, indent=2, ensure_ascii=False) if event is not None else "cannot be decoded"
        out.print(f"event      {one.event_type or '-'}\n{shown}", markup=False)

    session.show(document, people)


@DLQ.verb("redrive", "'rnd.insights|pharmaloop.production.capa.v1|0|17'", "--runner rnd.insights --yes")
@click.argument("letters", nargs=-1, type=LETTER, metavar="[LETTER]...")
@_narrowing
@_reason("--reason")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--timeout", default=_WAIT_SECONDS, show_default=True, help="Seconds to wait while none ends.")
@click.pass_context
def redrive(
    context: click.Context,
    letters: tuple[str, ...],
    service: str,
    runner: str,
    reason: str,
    yes: bool,
    timeout: float,
) -> None:
    """Have letters processed again, in the order of their keys, and say what became of each."""
    session: Session = context.obj
    chosen = _choose(session, Wanted(letters, service, runner, reason), yes, "process {} again?")
    if not session.as_json:
        click.echo(f"{_letters(len(chosen))} to be processed again")
    after: list[api.DeadLetter] = []

    def again(page: Page, moved: Moved) -> bool:
        request = api.RedriveDeadLettersRequest(request_id=new_id(), filter={"letters": page.own})
        session.call(session.operations_of(page.process).RedriveDeadLetters, request, page.seconds)
        after.extend(_wait(session, page.ids, timeout, moved))
        return all(_state(letter) != "redrive" for letter in after)

    broken_off = in_turn(session, chosen, again)
    if broken_off and not after:
        raise broken_off
    states = Counter(_state(letter) for letter in after)
    left = len(chosen) - len(after)
    document = {"letters": [plain(letter) for letter in after], **{name: states[name] for name in _STATES}}
    session.show({**document, "left": left}, lambda out: _print_outcome(out, after, states, left))
    if broken_off:
        raise broken_off
    if states["open"] or states["redrive"]:
        context.exit(1)


def _wait(session: Session, ids: tuple[str, ...], timeout: float, moved: Moved) -> list[api.DeadLetter]:
    """The letters once none of them is about to be processed, or none has ended for so long."""
    end = time.monotonic() + timeout
    stands: dict[str, api.DeadLetter] = {}
    moving = ids
    while moving:
        stands |= {letter.letter: letter for letter in find(session, Wanted(moving)).letters}
        still = tuple(id for id in moving if stands[id].state == api.DEAD_LETTER_STATE_REDRIVE)
        if len(still) < len(moving):
            moved(len(moving) - len(still))
            end = time.monotonic() + timeout
        elif time.monotonic() > end:
            break
        moving = still
        time.sleep(_POLL_SECONDS + _POLL_EACH * len(moving) if moving else 0)
    return [stands[id] for id in ids]


def _print_outcome(out: Console, letters: list[api.DeadLetter], states: Counter[str], left: int) -> None:
    words = {"redrive": "not processed yet", "open": "open again"}
    # Of many, those that somebody has to look at.
    shown = [one for one in letters if len(letters) <= _SHOWN or _state(one) != "done"]
    rows = [
        [short(letter.letter), words.get(_state(letter), _state(letter)), _why(letter), str(letter.attempts)]
        for letter in shown[:_SHOWN]
    ]
    if rows or not letters:
        out.print(table("Letters", ["letter", "outcome", "why", "tries"], rows))
    if len(shown) > _SHOWN:
        out.print(f"... and {len(shown) - _SHOWN} more: 'pharmaloop dlq list' shows them")
    told = [f"{states[name]} {words.get(name, name)}" for name in _STATES if states[name]]
    told += [f"{left} left as they were"] if left else []
    out.print("\n" + (", ".join(told) or "none"))
    if states["redrive"]:
        out.print("Their runner has not come to some: it is down, or its view is being rebuilt.")
        if left:
            out.print("Once it runs, give the same command again for those that are left.")


def _why(letter: api.DeadLetter) -> str:
    return f"{letter.reason}: {letter.description}" if letter.state == api.DEAD_LETTER_STATE_OPEN else ""


@DLQ.verb("discard", "'rnd.insights|pharmaloop.production.capa.v1|0|17' --reason \"a test record\"")
@click.argument("letters", nargs=-1, type=LETTER, metavar="[LETTER]...")
@_narrowing
@_reason()
@click.option("--reason", "why", required=True, help="Why nothing is lost by it, for the record.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def discard(
    session: Session,
    letters: tuple[str, ...],
    service: str,
    runner: str,
    reason: str,
    why: str,
    yes: bool,
) -> None:
    """Give letters up for good; who did it and why is kept."""
    if not why.strip():
        raise Failure("say with --reason why these letters may be given up")
    chosen = _choose(session, Wanted(letters, service, runner, reason), yes, "give {} up for good?")
    count, done = 0, list[str]()

    def give_up(page: Page, moved: Moved) -> bool:
        nonlocal count
        request = api.DiscardDeadLettersRequest(request_id=new_id(), filter={"letters": page.own}, reason=why)
        call = session.operations_of(page.process).DiscardDeadLetters
        count += session.call(call, request, page.seconds).letters
        done.extend(page.ids)
        moved(len(page.ids))
        return True

    broken_off = in_turn(session, chosen, give_up)
    if broken_off and not done:
        raise broken_off
    document = {"letters": done, "discarded": count}
    session.show(document, lambda out: out.print(f"{_letters(count)} discarded: {why}", markup=False))
    if broken_off:
        raise broken_off


# -- choosing -------------------------------------------------------------


def _choose(session: Session, wanted: Wanted, yes: bool, question: str) -> list[api.DeadLetter]:
    """The letters that wait and are wanted, once somebody has agreed."""
    if not wanted.narrows:
        raise Failure("name letters, or choose them by --runner or a reason")
    if session.as_json and not yes:
        raise Failure("with --json nobody can be asked: say --yes")
    found = find(session, wanted)
    if found.silent:
        found.tell_silent()
        raise Failure("nothing was done; choose by --service or --runner to leave out who does not answer")
    waiting = [letter for letter in found.letters if _state(letter) in ("open", "redrive")]
    settled = [letter for letter in found.letters if letter not in waiting]
    for letter in settled:
        click.echo(f"pharmaloop: {short(letter.letter)} is {_state(letter)} already", err=True)
    if waiting and not yes:
        _print(console(stderr=True), waiting, _SHOWN)
        click.confirm(question.format(_letters(len(waiting))), abort=True, err=True)
    return waiting


def _letters(count: int) -> str:
    return f"{count} letter" if count == 1 else f"{count} letters"
