"""Is everything as it was, but for what the drill was about? What is compared before a fault and after it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from deploy.drill.alarm import until
from deploy.drill.ground import Ground
from deploy.drill.rules import Sample

_KAFKA_SECONDS = 20.0
_CALM_SECONDS = 180.0
#: What waits for less than this moves: that is how a platform at work looks.
MOVING_SECONDS = 5.0
_WAITS = ("pharmaloop_group_lag_seconds", "pharmaloop_outbox_oldest_seconds")

Ends = Mapping[tuple[str, int], int]


@dataclass(frozen=True)
class Before:
    """What was there before the fault: the end of each partition, the open letters, what `verify` said (its
    exit status, None where it cannot judge)."""

    ends: Ends
    letters: frozenset[str]
    verified: int | None


@dataclass(frozen=True)
class Check:
    """One thing that was judged; `ok` is None for what could not be."""

    what: str
    ok: bool | None
    told: str

    @property
    def mark(self) -> str:
        """For people, in a word."""
        return {True: "right", False: "WRONG", None: "-"}[self.ok]


def before(ground: Ground) -> Before:
    """Look at a stack that is well."""
    return Before(ends(ground.plan.bootstrap), frozenset(ground.letters()), _verified(ground))


def judge(ground: Ground, was: Before, *, over: bool | None) -> list[Check]:
    """Judge the end: wait until nothing waits any more, then compare. `over`: the alert has ended; None
    where none was to come."""
    until(lambda: not not_serving(ground.serving()) and not waiting(ground.scrape()), _CALM_SECONDS)
    silent, slow = not_serving(ground.serving()), waiting(ground.scrape())
    return [
        Check("every service serves", not silent, ", ".join(silent) or "all"),
        *([] if over is None else [_alert(over=over)]),
        _nothing_waits(slow),
        lost(was.ends, ends(ground.plan.bootstrap)),
        _letters(ground, was),
        _as_before(ground, was),
    ]


def not_serving(serving: Mapping[str, str]) -> list[str]:
    """The services that do not serve, with what they say."""
    return [f"{name} {said}" for name, said in sorted(serving.items()) if said != "SERVING"]


def waiting(samples: Iterable[Sample]) -> list[str]:
    """What has waited for so long that it does not move, the longest first."""
    found = [s for s in samples if s.name in _WAITS and s.value > MOVING_SECONDS]
    return [
        f"{s.labels.get('process')} {s.labels.get('topic', 'outbox')} {s.value:.0f} s"
        for s in sorted(found, key=lambda s: -s.value)
    ]


def _alert(*, over: bool) -> Check:
    return Check("the alert is over", over, "it has ended" if over else "it still fires")


def _nothing_waits(slow: list[str]) -> Check:
    told = ", ".join(slow[:3]) or f"no record and no outbox row waits for {MOVING_SECONDS:g} s"
    return Check("lag and outboxes are normal", not slow, told)


def lost(was: Ends, now: Ends) -> Check:
    """Acknowledged records are in the log: no partition may end before where it ended."""
    shorter = [f"{topic} {part}" for (topic, part), end in was.items() if now.get((topic, part), -1) < end]
    more = sum(now.get(place, end) - end for place, end in was.items())
    told = f"{len(was)} partitions, {more} records more than before"
    return Check("no acknowledged record is lost", not shorter, f"shorter: {shorter}" if shorter else told)


def _letters(ground: Ground, was: Before) -> Check:
    what = "no dead letter is left by it"
    try:
        left = sorted(set(ground.letters()) - was.letters)
    except RuntimeError as error:
        return Check(what, False, str(error))
    return Check(what, not left, ", ".join(left) or "none")


def _as_before(ground: Ground, was: Before) -> Check:
    what = "`pharmaloop verify` finds every patient, as before"
    now = _verified(ground)
    if now is None:
        why = "the world still plays" if ground.world_plays else "no world was played here"
        return Check(what, None, f"not judged: {why}")
    if was.verified is None:
        return Check(what, now == 0, f"exit status {now}; before, the world was still playing")
    return Check(what, now == was.verified, f"exit status {was.verified} before, {now} after")


def _verified(ground: Ground) -> int | None:
    """What `verify` answers of a world whose story is told; None of one that goes on, and without any."""
    if ground.world_plays or not any((ground.state / "world").glob("**/truth.json")):
        return None
    return ground.run("pharmaloop verify").status


def ends(bootstrap: str) -> Ends:
    """Where each partition of each topic of the platform ends."""
    quiet: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "log_level": 0,
        "error_cb": lambda error: None,
    }
    client: Any = AdminClient(quiet)
    with client:
        topics = client.list_topics(timeout=_KAFKA_SECONDS).topics
        places = [
            TopicPartition(name, partition)
            for name, topic in topics.items()
            if name.startswith("pharmaloop.")
            for partition in topic.partitions
        ]
        asked = client.list_offsets(
            {place: OffsetSpec.latest() for place in places}, request_timeout=_KAFKA_SECONDS
        )
        return {(place.topic, place.partition): asked[place].result().offset for place in places}
