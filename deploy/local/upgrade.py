"""In which order the services are restarted when the platform changes its build: consumers first.

An old build that meets an event type which only the newer contract has stops
there and waits until it is restarted as the newer one (decision 8). Nothing is
lost by that, but the waiting is spared where whoever reads what is new is
restarted before whoever says it. On the way back the order is the other way
round: whoever says it goes first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

#: Where nothing else decides. alerting, the agents and the evaluator read what others say, and nobody reads
#: them; the six between read each other in circles, so no order serves all that they could ever say.
CONSUMERS_FIRST = (
    "alerting",
    "evaluator",
    "agent",
    "traceability",
    "rnd",
    "loops",
    "clinical",
    "exchange",
    "production",
)
#: Of a service in several processes: who reads, who publishes, who answers calls.
ROLES = ("worker", "relay", "api")


def in_order(news: Mapping[str, Collection[str]]) -> list[str]:
    """The services in the order of an upgrade; `news`: who reads something new of each service.

    Whoever reads something new comes before its owner. Where two say each other something new, the one that
    stands first in `CONSUMERS_FIRST` goes first and the other waits for nothing: see `that_wait`.
    """
    left = list(CONSUMERS_FIRST)
    ordered = []
    while left:
        free = (name for name in left if not set(news.get(name, ())) & set(left) - {name})
        chosen = next(free, left[0])
        left.remove(chosen)
        ordered.append(chosen)
    return ordered


def that_wait(order: Iterable[str], news: Mapping[str, Collection[str]]) -> set[str]:
    """Who may stop at an event that it does not know yet, until it is restarted itself."""
    done: set[str] = set()
    waiting: set[str] = set()
    for name in order:
        done.add(name)
        waiting |= set(news.get(name, ())) - done
    return waiting
