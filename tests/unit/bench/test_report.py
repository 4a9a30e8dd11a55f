"""The report of the benchmarks: rows, targets, and what stays when one benchmark is run alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.framework.profile import stacks
from tests.bench.framework.render import markdown
from tests.bench.framework.rows import Target, merged, row
from tests.bench.framework.run import files_of
from tests.bench.framework.stats import p50, p95

AROUND: dict[str, Any] = {"cpu": "a processor", "date": "2026-03-01 12:00 UTC", "load_1_min": 0.5}
LATER: dict[str, Any] = {"cpu": "another", "date": "2026-03-02 12:00 UTC", "load_1_min": 1.5}
EMPTY: dict[str, Any] = {"environment": {}, "rows": []}


def test_a_row_is_judged_by_every_bound_that_is_given() -> None:
    both = Target(at_least=30_000, ratio_at_least=0.6)
    assert row("r", 40_000, "1/s", target=both, yardstick=("raw", 50_000)).met
    assert not row("r", 40_000, "1/s", target=both, yardstick=("raw", 80_000)).met
    assert not row("r", 29_000, "1/s", target=both, yardstick=("raw", 30_000)).met
    assert not row("r", 501.0, "ms", target=Target(at_most=500)).met
    assert row("r", 1.0, "ms").met is None


def test_a_ratio_is_asked_for_only_where_there_is_a_yardstick() -> None:
    without = row("r", 40_000, "1/s", target=Target(ratio_at_least=0.6))
    assert (without.ratio, without.met) == (None, False)


def test_a_benchmark_run_alone_leaves_the_rows_of_the_others_with_their_date_and_machine() -> None:
    first = merged(EMPTY, "facts", AROUND, [row("a", 1, "1/s")])
    both = merged(first, "idle", LATER, [row("b", 2, "MB")])
    again = merged(both, "idle", LATER, [row("c", 3, "MB")])
    found = {(one["name"], one["date"], one["load"], one["cpu"]) for one in again["rows"]}
    assert found == {("a", AROUND["date"], 0.5, "a processor"), ("c", LATER["date"], 1.5, "another")}
    assert again["environment"] == LATER


def test_the_page_shows_value_yardstick_and_whether_the_target_is_met() -> None:
    shown = row("facts | fast", 1234, "1/s", target=Target(at_least=2000), yardstick=("raw", 2468))
    page = markdown(merged(EMPTY, "facts", AROUND, [shown]))
    assert "| facts \\| fast | 1,234 1/s | 2,468 (raw) | 0.50 | >= 2,000 1/s | **no** |" in page
    assert "a processor" in page
    assert "2026-03-01 12:00 UTC (load 0.5, a processor)" in page


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 201)]
    assert (p50(values), p95(values), p95([7.0])) == (100.0, 190.0, 7.0)


def test_stacks_count_a_function_once_a_sample_and_leave_out_idle_threads() -> None:
    lines = [
        "thread (0x7F): batch;main (a.py:1);fold (a.py:2);fold (a.py:3) 3",
        "thread (0x7F): batch;main (a.py:1);take (b.py:9) 1",
        "thread (0x8F): pool_1;_worker (concurrent/futures/thread.py:81) 50",
    ]
    found = stacks(lines)
    assert set(found) == {"batch"}
    assert found["batch"].samples == 4
    assert found["batch"].below == {"main (a.py)": 4, "fold (a.py)": 3, "take (b.py)": 1}
    assert found["batch"].own == {"fold (a.py)": 3, "take (b.py)": 1}


def test_what_is_no_benchmark_is_refused_by_name() -> None:
    with pytest.raises(SystemExit, match=r"nothing\.py is no benchmark"):
        files_of(["nothing.py"])
    assert [path.name for path in files_of(["tests/bench/bench_facts.py"])] == ["bench_facts.py"]
