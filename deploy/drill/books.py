"""What a runbook tells somebody to type, section by section."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from deploy.local.plan import ROOT

FOLDER = ROOT / "docs" / "runbooks"
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
#: Words that are to be replaced by what the command before shows.
_PLACE = re.compile(r"(?<= )[A-Z]{3,}\b")


@dataclass(frozen=True)
class Book:
    """One runbook: its commands and its queries by section."""

    path: Path
    commands: Mapping[str, Sequence[str]]
    queries: Sequence[str]


def read(alert: str, folder: Path = FOLDER) -> Book:
    """The runbook of an alert."""
    path = folder / f"{alert}.md"
    commands: dict[str, list[str]] = {}
    queries: list[str] = []
    for part in re.split(r"^## ", path.read_text(), flags=re.MULTILINE)[1:]:
        title = part.partition("\n")[0]
        for language, text in _BLOCK.findall(part):
            if language == "sh":
                commands.setdefault(title, []).extend(text.splitlines())
            elif language == "promql":
                queries.append(text.strip())
    return Book(path, commands, queries)


def filled(line: str, words: Mapping[str, Sequence[str]]) -> list[str]:
    """A command for each value of the words that it has; none where a word has no value."""
    places = list(dict.fromkeys(_PLACE.findall(line)))
    made = []
    for values in product(*(words.get(place, ()) for place in places)):
        one = line
        for place, value in zip(places, values, strict=True):
            told = shlex.quote(value)
            one = re.sub(rf"(?<= ){place}\b", lambda _, told=told: told, one)  # type: ignore[misc]
        made.append(one)
    return made
