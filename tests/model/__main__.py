"""Search every configuration with all rules, then with each rule left out: `make model`.

Exit status 1 when a configuration breaks with all rules, or a rule that is left
out breaks nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from tests.model import story
from tests.model.configurations import CONFIGURATIONS
from tests.model.rules import RULES, searched
from tests.model.search import Result

_WIDTHS = "{:<31} {:<13} {:>9} {:>10} {:>8}  {}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__.partition("\n")[0])
    parser.add_argument("--without", choices=sorted(RULES), help="leave this rule out and show what happens")
    parser.add_argument("--only", choices=sorted(CONFIGURATIONS), help="search this configuration alone")
    asked = parser.parse_args()
    print(_WIDTHS.format("rules", "configuration", "states", "moves", "seconds", "result"))
    if asked.without:
        results = [_left_out(asked.without, shown=True)]
    elif asked.only:
        results = [_whole(asked.only)]
    else:
        results = [*map(_whole, CONFIGURATIONS), *_every_rule()]
    sys.exit(not all(results))


def _every_rule() -> Iterator[bool]:
    for name in RULES:
        yield _left_out(name)


def _whole(name: str) -> bool:
    result = searched(name)
    _tell("all", name, result, f"BROKEN: {result.broken}" if result.broken else "holds")
    if result.broken:
        _show(result)
    return not result.broken


def _left_out(name: str, *, shown: bool = False) -> bool:
    rule = RULES[name]
    result = searched(rule.configuration, rule)
    said = f"counterexample of {len(result.way)} moves: {result.broken}"
    _tell(f"without {name}", rule.configuration, result, said if result.broken else "NOTHING FOUND")
    if shown:
        print(f"\nWithout the rule that {rule.about}:")
        _show(result)
    return bool(result.broken)


def _tell(rules: str, name: str, result: Result, said: str) -> None:
    seconds = f"{result.seconds:.1f}"
    print(_WIDTHS.format(rules, name, result.states, result.moves, seconds, said), flush=True)


def _show(result: Result) -> None:
    for line in story.lines(result.way):
        print(line)
    print(f"  => {result.broken}")


main()
