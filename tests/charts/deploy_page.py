"""docs/deploy.md as commands, values files and messages, for the test that tries them."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deploy.charts.render import CHARTS, EXAMPLES, ROOT
from deploy.local.kube_tools import helm, kubectl

PAGE = ROOT / "docs" / "deploy.md"
#: What the page copies to `values.yaml`.
OWN_ENGINES = EXAMPLES / "own-engines.yaml"
_PROGRAMS = ("helm", "kubectl", "make", "docker", "pharmaloop")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_ENDS = re.compile(r"&&|\|\||[;|]|\bdo\b")
_INNER = re.compile(r"\$\(([^()]*)\)")


@dataclass(frozen=True)
class Command:
    """One call of a program: its words, without the program's name."""

    program: str
    words: tuple[str, ...]

    @property
    def flags(self) -> list[str]:
        """Options before `--`, without what they are set to."""
        own = self.words[: self.words.index("--")] if "--" in self.words else self.words
        return [word.partition("=")[0] for word in own if re.match(r"--?[a-z]", word)]

    def told(self, *names: str) -> list[str]:
        """What options of these names are set to, in order."""
        found = []
        for number, word in enumerate(self.words):
            name, _, value = word.partition("=")
            if name in names:
                found.append(value if "=" in word else self.words[number + 1])
        return found

    @property
    def within(self) -> Command | None:
        """The `pharmaloop` command that `kubectl exec POD -- ...` gives."""
        rest = self.words[self.words.index("--") + 1 :] if "--" in self.words else ()
        return Command(rest[0], rest[1:]) if rest and rest[0] in _PROGRAMS else None


def blocks(language: str) -> list[str]:
    """Fenced blocks of a language; "" is of none."""
    return [text for name, text in _BLOCK.findall(PAGE.read_text()) if name == language]


def values_files() -> dict[str, str]:
    """By name, the values files that the page writes out, beside the one that it copies."""
    found = {}
    for text in blocks("yaml"):
        if named := re.match(r"# ([a-z-]+\.yaml)\n", text):
            found[named[1]] = text
    return found


def commands() -> list[Command]:
    """Every call in the page's blocks of shell, and in its running text between backticks."""
    lines = [line for text in blocks("sh") for line in text.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"```.*?^```$", "", PAGE.read_text(), flags=re.M | re.S)
    lines += [line.replace("\n", " ") for line in re.findall(r"`([^`]+)`", prose)]
    found = [command for line in lines for command in calls(line)]
    return list(dict.fromkeys(found))


def calls(line: str) -> Iterator[Command]:
    """The calls of the programs in a line of shell, and in what it fills in from others."""
    for inner in _INNER.findall(line):
        yield from calls(inner)
    for part in _parts(_INNER.sub("filled-in", line)):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:
            continue  # a piece of running text with an apostrophe
        if len(words) > 1 and words[0] in _PROGRAMS:
            cut = next((n for n, word in enumerate(words) if word.startswith(">")), len(words))
            yield Command(words[0], tuple(words[1:cut]))


def _parts(line: str) -> Iterator[str]:
    """A line, cut where another command may begin; what stands in quotes is left whole."""
    start, quote = 0, ""
    position = 0
    while position < len(line):
        letter = line[position]
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif found := _ENDS.match(line, position):
            yield line[start:position]
            start = position = found.end()
            continue
        position += 1
    yield line[start:]


@cache
def help_of(program: str, *path: str) -> str:
    """What helm or kubectl says of a command; empty where it has none such."""
    binary = {"helm": helm, "kubectl": kubectl}[program]()
    done = subprocess.run([binary, *path, "--help"], capture_output=True, text=True, check=False)
    known = re.search(rf"^\s+{program} {' '.join(path)}\b", done.stdout, re.M)
    return done.stdout if known and not done.returncode else ""


def help_for(command: Command) -> str:
    """What the program says of the deepest command that these words name, with the options of all."""
    words = [word for word in command.words if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
    if words and command.words[0] in ("-n", "--namespace"):
        words = words[1:]
    for length in (3, 2, 1):
        if len(words) >= length and (text := help_of(command.program, *words[:length])):
            return text + (_options_of_all() if command.program == "kubectl" else "")
    return ""


@cache
def _options_of_all() -> str:
    return subprocess.run([kubectl(), "options"], capture_output=True, text=True, check=True).stdout


def messages() -> list[list[str]]:
    """The pieces of each message in the table of troubles: they stand there between backticks."""
    table = PAGE.read_text().split("| message | cause | step |")[1].split("\n\n")[0]
    rows = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    return [re.findall(r"`([^`]+)`", row) for row in rows]


def troubles() -> list[tuple[list[str], list[tuple[str, str]]]]:
    """Of each row on what bad operation gets: the alerts, and the tests (file, name) that prove it."""
    table = PAGE.read_text().split("| what is wrong |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [(re.findall(r"\w+", row[2]), re.findall(r"`(tests/[^`]+)::(\w+)`", row[3])) for row in rows]


@cache
def printed() -> tuple[str, ...]:
    """Every text that the services, their kit and the charts may print, as it is written there.

    Texts are whole: what Python joins is joined. What is filled in stands as a zero byte.
    """
    found = []
    for path in sorted((ROOT / "services").rglob("*.py")):
        if path.is_relative_to(ROOT / "services" / "world"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(_text(part) for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    found += [path.read_text() for path in sorted(CHARTS.rglob("*.tpl"))]
    return tuple(found)


def _text(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "\0"


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.M))


def links() -> list[Path]:
    """Files that the page leads to."""
    found = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGE.read_text())
    return [(PAGE.parent / one).resolve() for one in found]
