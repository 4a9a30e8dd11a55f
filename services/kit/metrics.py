"""The metrics of the platform, as typed constants: mypy refuses a name that is not here.

Dashboards, alert rules and docs name nothing outside this registry. Each
metric says what it means and what to do when it looks wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)

from services.kit import tracing

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


@dataclass(frozen=True)
class Metric:
    """One metric: name, kind, labels, and what an operator should know."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = _SECONDS


#: Every label there may be, and what bounds the values it can have. Who is a patient, a lot, a run, a
#: person or a request is in no label, ever: there is no end to them, and metrics are kept by whoever may
#: not know them.
LABELS: dict[str, str] = {
    "service": "the services of the platform",
    "runner": "the reactors, projectors and loops that services declare",
    "group": "the consumer groups: one a runner, and at a hospital one a runner and site",
    "topic": "the topics of the contract that a runner reads",
    "type": "the event types of the contract by domain and name, as `production.LotHeld`, and `other` for "
    "whatever else stands in a topic",
    "method": "the calls of the contract, and one for those that are in none",
    "code": "the status codes of gRPC",
    "page": "the addresses of the portal's pages as templates, one for its files, and `none` for all others",
    "reason": "the reasons of refusals, which are words of the code",
    "outcome": "the few words that the metric names",
    "step": "the steps that services declare",
    "part": "what a process stands on, what of it can be fenced, and what its certificates secure",
    "loop": "safety, transfer, evidence",
    "stage": "the stages of the loops; of plans, the stages of a plan",
    "state": "the few words that the metric names",
    "site": "the hospitals of the installation",
}
#: What `prometheus_client` tells of the process itself. They carry no label of ours.
PROCESS = (
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
)

RPC_SECONDS = Metric(
    "pharmaloop_rpc_seconds",
    "histogram",
    ("service", "method", "code"),
    "Time to answer an RPC, by status code.",
)
PAGE_SECONDS = Metric(
    "pharmaloop_page_seconds",
    "histogram",
    ("service", "page", "outcome"),
    "Time to answer a browser; outcome: done, refused (4xx), or failed, by the portal or by what it asks: "
    "its log and the calls of the services say which.",
)
RUNNER_RECORDS = Metric(
    "pharmaloop_runner_records_total", "counter", ("service", "runner"), "Records a runner has taken."
)
RUNNER_LAG = Metric(
    "pharmaloop_runner_lag_records",
    "gauge",
    ("service", "runner"),
    "Records between a runner and the end of its topics; if it only grows, the runner is stuck or too slow.",
)
RUNNER_AGE = Metric(
    "pharmaloop_runner_age_seconds",
    "histogram",
    ("service", "runner"),
    "Wall time from a record's creation to its effect.",
)
BATCH_SECONDS = Metric(
    "pharmaloop_batch_seconds",
    "histogram",
    ("service", "runner"),
    "Wall time to fold a batch of records and commit it; beyond a second the runner takes smaller ones.",
)
HANDLED = Metric(
    "pharmaloop_handled_total",
    "counter",
    ("service", "runner", "type", "outcome"),
    "Events a handler has had, by type; outcome: done, or dead for those that became dead letters.",
)
GROUP_LAG = Metric(
    "pharmaloop_group_lag_seconds",
    "gauge",
    ("service", "group", "topic"),
    "Age of the oldest record of a topic that a group has not taken; if it only grows, see the watermark's.",
)
PROJECTOR_DELAY = Metric(
    "pharmaloop_projector_delay_seconds",
    "gauge",
    ("service", "runner"),
    "How old what a projector's readers see is: the largest lag of its topics; pages show an earlier state.",
)
WATERMARK_AGE = Metric(
    "pharmaloop_watermark_age_seconds",
    "gauge",
    ("service", "runner"),
    "Seconds since a runner last got on in a partition where records wait; old: stuck, young with lag: slow.",
)
FENCED = Metric(
    "pharmaloop_fenced_total",
    "counter",
    ("service", "part"),
    "Times that a runner, relay or step came back and found its work taken over; it did nothing twice.",
)
RUNNER_RETRIES = Metric(
    "pharmaloop_runner_retries_total",
    "counter",
    ("service", "runner"),
    "Batches tried again after a transient fault.",
)
RUNNER_WAITING = Metric(
    "pharmaloop_runner_waiting_sources",
    "gauge",
    ("service", "runner"),
    "Sources whose events wait for a state that has not arrived; old ones point at a lost record upstream.",
)
RUNNER_UP = Metric(
    "pharmaloop_runner_up",
    "gauge",
    ("service", "runner"),
    "1 while the runner turns; 0: read its log, then restart.",
)
DEAD_LETTERS = Metric(
    "pharmaloop_dead_letters_total",
    "counter",
    ("service", "runner", "reason"),
    "Records that were dead-lettered; any on a safety topic needs a person.",
)
DEAD_LETTERS_OPEN = Metric(
    "pharmaloop_dead_letters_open",
    "gauge",
    ("service", "runner"),
    "Dead letters that nobody has settled; on a recall's topics they hold its seal: pharmaloop dlq list.",
)
EVENTS = Metric(
    "pharmaloop_events_total",
    "counter",
    ("service", "type"),
    "Events a service has published, by type; alerting.AlertRepeated: alerts that joined an open one.",
)
OUTBOX_WAITING = Metric(
    "pharmaloop_outbox_waiting", "gauge", ("service",), "Outbox rows committed and not published."
)
OUTBOX_AGE = Metric(
    "pharmaloop_outbox_oldest_seconds",
    "gauge",
    ("service",),
    "Age of the oldest outbox row that is not published; if it only grows, no relay runs or reaches Kafka.",
)
SUBSCRIPTIONS = Metric(
    "pharmaloop_subscriptions",
    "gauge",
    ("service",),
    "Streams of changes that stand; near PHARMALOOP_<SERVICE>_MOST_SUBSCRIPTIONS further ones are refused.",
)
READY = Metric(
    "pharmaloop_ready",
    "gauge",
    ("service",),
    "1 while the process can do its work; 0: its status says why.",
)
TROUBLE = Metric(
    "pharmaloop_trouble",
    "gauge",
    ("service", "part"),
    "1 while a part (database, kafka, topics, state folder) does not do; the log names setting and remedy.",
)
CLOCK_SKEW = Metric(
    "pharmaloop_clock_skew_seconds",
    "gauge",
    ("service",),
    "By how much the database's clock is ahead of the machine's; beyond 1 s it is followed: mend NTP.",
)
CERTIFICATE_EXPIRES = Metric(
    "pharmaloop_certificate_expires_seconds",
    "gauge",
    ("service", "part"),
    "Until a certificate expires that the process uses, or an authority's; negative: since. Renew it before.",
)
OUTBOX_BLOCKED = Metric(
    "pharmaloop_outbox_blocked",
    "gauge",
    ("service",),
    "Aggregates whose next event Kafka refuses: their later ones wait; the log names event and reason.",
)
DECIDER_GROUP = Metric(
    "pharmaloop_decider_group_commands",
    "histogram",
    ("service",),
    "Commands committed in one transaction.",
    (1, 2, 4, 8, 16, 32, 64, 128, 256),
)
DECIDER_SECONDS = Metric(
    "pharmaloop_decider_seconds", "histogram", ("service",), "Wall time to decide and commit a group."
)
DECIDER_WAITING = Metric(
    "pharmaloop_decider_waiting",
    "gauge",
    ("service",),
    "Commands that wait to be decided; near the limit callers are told to come again.",
)
STEP_OVERDUE = Metric(
    "pharmaloop_step_overdue_seconds",
    "gauge",
    ("service", "step"),
    "Age of the oldest due step of a name that is not done, in wall seconds.",
)
STEP_RUNNING = Metric("pharmaloop_step_running", "gauge", ("service",), "Steps that run in this process.")
STAGE_SECONDS = Metric(
    "pharmaloop_stage_seconds",
    "histogram",
    ("loop", "stage"),
    "Wall time of a stage of a loop: the loop SLO.",
)
LOOP_RUNS = Metric(
    "pharmaloop_loop_runs_total", "counter", ("loop", "outcome"), "Runs that ended, by outcome."
)
STAGE_STALLS = Metric(
    "pharmaloop_stage_stalls_total",
    "counter",
    ("loop", "stage"),
    "Stages that were not over by their deadline; with the number of stages, the loop SLO.",
)
RUNS_OPEN = Metric(
    "pharmaloop_runs_open",
    "gauge",
    ("loop", "stage", "state"),
    "Runs that go on, by their stage; state stalled: it is past its deadline; pharmaloop run list says why.",
)
RUN_OLDEST = Metric(
    "pharmaloop_run_oldest_seconds",
    "gauge",
    ("loop", "stage"),
    "Wall time since the oldest run of those in a stage began; 0 where none is.",
)
RUN_IN_STAGE = Metric(
    "pharmaloop_run_in_stage_seconds",
    "gauge",
    ("loop", "stage"),
    "Wall time that the run which is longest in a stage has spent in it; 0 where none is.",
)
PLANS = Metric(
    "pharmaloop_plans",
    "gauge",
    ("site", "stage"),
    "Patients of runs that go on, by what became of their plan; pending: exposed, and no record of them yet.",
)
NOTICES = Metric(
    "pharmaloop_notices",
    "gauge",
    ("site", "state"),
    "Patients of runs that go on: to be told (owed; before the hazard is judged: unevaluated), told, or not.",
)
DIGEST_MISMATCHES = Metric(
    "pharmaloop_digest_mismatches",
    "gauge",
    ("site",),
    "Runs of which a site holds something else than was announced; if it lasts, patients are missing.",
)
UNATTRIBUTED = Metric(
    "pharmaloop_unattributed_exposures",
    "gauge",
    ("service",),
    "Dispenses in open journals of which nobody knows the patient; each holds the seal of its run.",
)
LOOP_COMMIT_STALLED = Metric(
    "pharmaloop_loop_commit_stalled_seconds",
    "gauge",
    ("service", "runner"),
    "Wall seconds since a loop's committed offset last advanced while it took records; 0 while it advances. "
    "Above 60: its commits hang; nothing is lost, but a restart takes all of it again: restart it now.",
)
LOOP_COMMITTED = Metric(
    "pharmaloop_loop_committed_records",
    "gauge",
    ("service", "runner"),
    "Committed offsets of a loop's partitions, summed; flat while records_total rises: commits hang.",
)

CATALOGUE: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)


class Metrics:
    """The process's own registry: makes each metric of the catalogue once."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._made: dict[Metric, Counter | Gauge | Histogram] = {}
        for metric in CATALOGUE:
            self._made[metric] = self._make(metric)

    def _make(self, metric: Metric) -> Counter | Gauge | Histogram:
        if metric.kind == "counter":
            return Counter(metric.name, metric.help, metric.labels, registry=self.registry)
        if metric.kind == "gauge":
            return Gauge(metric.name, metric.help, metric.labels, registry=self.registry)
        return Histogram(
            metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self.registry
        )

    def _labelled(self, metric: Metric, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        if "service" in metric.labels:
            labels = {"service": self.service, **labels}
        return self._made[metric].labels(**labels)

    def add(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        child = self._labelled(metric, labels)
        assert isinstance(child, Counter)
        child.inc(amount)

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        child = self._labelled(metric, labels)
        assert isinstance(child, Gauge)
        child.set(value)

    def observe(self, metric: Metric, value: float, *, trace: str = "", **labels: str) -> None:
        """`trace` is the traceparent of the span that took so long: it is kept beside the value, and
        served to whoever asks for OpenMetrics."""
        child = self._labelled(metric, labels)
        assert isinstance(child, Histogram)
        child.observe(value, tracing.exemplar(trace) if trace else None)

    def serve(self, host: str, port: int) -> int:
        """Serve /metrics; answers the port (a free one for 0)."""
        server, _thread = start_http_server(port, addr=host, registry=self.registry)
        return int(server.server_port)
