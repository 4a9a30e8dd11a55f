"""Many letters, a page at a time: each page is one call, its end is seen before the next one begins.

Letters of one key stay together, for a service judges their order over what it is asked at once.
What is stopped in the middle is gone on with by giving the same command again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pharmaloop.common.v1 import operations_pb2 as api
from services.cli.processes import own, process_of
from services.cli.progress import bar
from services.cli.session import SECONDS, Failure, Refused, Session

#: Letters of a page, where a key has not more of them.
_MANY = 200
#: A call about more letters than that has so much longer, for each.
_SECONDS_EACH = 0.05
_AGAIN = (
    "give the same command again: it goes on with the letters that wait and settles none twice; "
    "'pharmaloop dlq list' shows them"
)
Moved = Callable[[int], None]


@dataclass(frozen=True)
class Page:
    """Letters of one process."""

    process: str
    ids: tuple[str, ...]

    @property
    def own(self) -> list[str]:
        """The ids as the process calls them."""
        return [own(id) for id in self.ids]

    @property
    def seconds(self) -> float:
        """How long its call may take."""
        return SECONDS + _SECONDS_EACH * max(0, len(self.ids) - _MANY)


def pages(letters: Iterable[api.DeadLetter]) -> list[Page]:
    """The letters in pages, in order; a key with more than fit has a page of its own."""
    keys: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for one in sorted(letters, key=lambda letter: letter.letter):
        keys[process_of(one.letter), one.runner, one.topic, one.key].append(one.letter)
    made: list[Page] = []
    for (process, *_), ids in keys.items():
        last = made[-1] if made else None
        if last and last.process == process and len(last.ids) + len(ids) <= _MANY:
            made[-1] = Page(process, (*last.ids, *ids))
        else:
            made.append(Page(process, tuple(ids)))
    return made


def in_turn(
    session: Session, letters: Sequence[api.DeadLetter], deal: Callable[[Page, Moved], bool]
) -> Failure | None:
    """Deal with the letters page by page, until a page says False; what broke it off, and where it stands."""
    done, page = 0, Page("", ())
    try:
        with bar(session, "letters", len(letters)) as moved:
            for page in pages(letters):
                if not deal(page, moved):
                    break
                done += len(page.ids)
    except Failure as error:
        return error if isinstance(error, Refused) and not done else _broken_off(error, done, page, letters)
    except KeyboardInterrupt:
        return _broken_off(Failure("it was interrupted"), done, page, letters)
    return None


def _broken_off(error: Failure, done: int, page: Page, letters: Sequence[api.DeadLetter]) -> Failure:
    rest = len(letters) - done - len(page.ids)
    error.message += (
        f"; of {len(letters)} letters {done} are dealt with, {len(page.ids)} were just asked for and may be "
        f"so too, {rest} were not begun"
    )
    error.next_step = f"{error.next_step}; then {_AGAIN}" if isinstance(error, Refused) else _AGAIN
    error.exit_code = max(1, error.exit_code)
    return error
