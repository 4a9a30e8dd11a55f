"""Consumers are restarted before those whose events they read."""

from __future__ import annotations

from deploy.local.plan import SERVICES
from deploy.local.upgrade import CONSUMERS_FIRST, in_order, that_wait
from services.kit.contracts import contract
from tests.reliability.specs import SITE, SPECS, runners

OWNERS = {name: topic.owner for name, topic in contract().names((SITE,))}


def read_by() -> dict[str, set[str]]:
    """Of each service, whose events it reads."""
    found: dict[str, set[str]] = {name: set() for name in CONSUMERS_FIRST}
    for runner, topics in runners().items():
        reader = SPECS[runner.rpartition(".")[0]].name
        found[reader] |= {OWNERS[topic] for topic in topics} - {reader}
    return found


def reached(name: str, reads: dict[str, set[str]]) -> set[str]:
    """Everybody whose events come to a service, through others too."""
    found: set[str] = set()
    left = [name]
    while left:
        new = reads[left.pop()] - found
        found |= new
        left += new
    return found


def test_every_service_is_restarted_once() -> None:
    assert sorted(CONSUMERS_FIRST) == sorted({process.partition(".")[0] for process in SERVICES})


def test_who_is_in_no_circle_comes_before_all_whose_events_it_reads() -> None:
    reads = read_by()
    for name in CONSUMERS_FIRST:
        for owner in reads[name]:
            if name not in reached(owner, reads):
                assert CONSUMERS_FIRST.index(name) < CONSUMERS_FIRST.index(owner), (name, owner)


def test_who_reads_what_is_new_comes_before_who_says_it() -> None:
    news = {"rnd": {"production", "loops"}, "production": {"clinical"}}
    order = in_order(news)
    assert order.index("clinical") < order.index("production") < order.index("rnd")
    assert order.index("loops") < order.index("rnd")
    assert sorted(order) == sorted(CONSUMERS_FIRST)
    assert not that_wait(order, news)


def test_where_two_say_each_other_something_new_one_waits() -> None:
    news = {"rnd": {"production"}, "production": {"rnd"}}
    order = in_order(news)
    assert that_wait(order, news) == {"production"}


def test_nothing_new_leaves_the_order() -> None:
    assert in_order({}) == list(CONSUMERS_FIRST)
    assert not that_wait(in_order({}), {})


def test_in_the_wrong_order_the_readers_wait() -> None:
    assert that_wait(["production", "alerting"], {"production": {"alerting"}}) == {"alerting"}
