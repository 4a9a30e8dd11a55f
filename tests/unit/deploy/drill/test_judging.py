"""What is held against a platform after a fault."""

from __future__ import annotations

from deploy.drill.judging import lost, not_serving, waiting
from deploy.drill.rules import Sample


def test_a_partition_that_ends_earlier_has_lost_something() -> None:
    was = {("a", 0): 10, ("b", 0): 5}
    assert (
        lost(was, {("a", 0): 10, ("b", 0): 7, ("c", 0): 1}).told == "2 partitions, 2 records more than before"
    )
    assert lost(was, {("a", 0): 9, ("b", 0): 7}).ok is False
    assert lost(was, {("b", 0): 7}).ok is False


def test_what_moves_does_not_wait() -> None:
    lag = "pharmaloop_group_lag_seconds"
    samples = [
        Sample(lag, {"process": "rnd", "topic": "a"}, 0.4),
        Sample(lag, {"process": "loops", "topic": "b"}, 70.2),
        Sample("pharmaloop_outbox_oldest_seconds", {"process": "clinical"}, 300.0),
        Sample("pharmaloop_batch_seconds", {"process": "rnd"}, 900.0),
    ]
    assert waiting(samples) == ["clinical outbox 300 s", "loops b 70 s"]
    assert not_serving({"b": "NOT_SERVING", "a": "SERVING"}) == ["b NOT_SERVING"]
