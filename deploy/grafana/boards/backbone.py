"""Backbone: Kafka as the services see it, what waits before it (relays) and after it (runners).

Brokers and databases have exporters of their own; these are the platform's numbers.
"""

from __future__ import annotations

from deploy.grafana.links import STATUS, board, label, portal, uid
from deploy.grafana.model import Board, Choice, Levels, Panel, Query, Row

_CHOSEN = 'service=~"$service"'
_OF_SERVICE = board("services", service=label("service"))
_BY_RUNNER = "{{service}} {{site}} {{runner}}"


def _by_runner(metric: str) -> Query:
    return Query(f"max by (service, site, runner) ({metric}{{{_CHOSEN}}})", _BY_RUNNER)


def _by_service(metric: str) -> Query:
    return Query(f"max by (service, site) ({metric}{{{_CHOSEN}}})", "{{service}} {{site}}")


def _trouble(part: str) -> Query:
    return Query(
        f"max by (service, site) (pharmaloop_trouble{{{_CHOSEN}, part=~'{part}'}})", "{{service}} {{site}}"
    )


_REACHED = Row(
    "Are Kafka and the database reached?",
    (
        Panel(
            "Kafka not reached",
            "bars",
            "suffix:processes",
            shows="1 for each service that cannot reach Kafka, may not write there, or finds other topics.",
            do="One service: its network, name or rights. All of them: the brokers.",
            queries=(_trouble("kafka|topics"),),
            links=(STATUS, _OF_SERVICE),
            alerts=("KafkaUnreachable",),
            levels=Levels(page=1),
        ),
        Panel(
            "Database not reached",
            "bars",
            "suffix:processes",
            shows="1 for each service that cannot write to its database.",
            do="One service: its address or password. All of them: the replica set has no primary.",
            queries=(_trouble("database"),),
            links=(STATUS, _OF_SERVICE),
            alerts=("DatabaseUnreachable",),
            levels=Levels(page=1),
        ),
        Panel(
            "Events published",
            "lines",
            "cps",
            shows="Events that each service has put into Kafka, a second.",
            do="One that stops while its outbox grows is cut off or blocked: see the row below.",
            queries=(
                Query(
                    f"sum by (service, site) (rate(pharmaloop_events_total{{{_CHOSEN}}}[$__rate_interval]))",
                    "{{service}} {{site}}",
                ),
            ),
            links=(_OF_SERVICE, STATUS),
        ),
    ),
)

_BEFORE = Row(
    "Before Kafka: outboxes and their relays",
    (
        Panel(
            "Oldest event not published",
            "lines",
            "s",
            shows="Age of the oldest event that a service decided and that is not in Kafka.",
            do="While it grows nobody hears of what was decided: is Kafka reached, is the outbox blocked?",
            queries=(_by_service("pharmaloop_outbox_oldest_seconds"),),
            links=(_OF_SERVICE, STATUS),
            alerts=("OutboxWaits",),
        ),
        Panel(
            "Events not published",
            "lines",
            "suffix:events",
            shows="Rows of the outbox that are committed and not in Kafka.",
            do="Many and young is a burst that goes by; many and old is a relay that is too slow or stands.",
            queries=(_by_service("pharmaloop_outbox_waiting"),),
            links=(_OF_SERVICE, STATUS),
        ),
        Panel(
            "Blocked",
            "bars",
            "suffix:events",
            shows="Lots, recalls, plans and others whose next event Kafka refuses.",
            do="They do not go on by themselves: the log names event and reason, the runbook what to do.",
            queries=(_by_service("pharmaloop_outbox_blocked"),),
            links=(STATUS, _OF_SERVICE),
            alerts=("OutboxBlocked",),
        ),
    ),
)

_AFTER = Row(
    "After Kafka: runners and how far they are",
    (
        Panel(
            "Oldest record that waits",
            "lines",
            "s",
            shows="Age of the oldest record of a topic that a group has not taken.",
            do="Look at the watermark beside it: old there too, it is stuck; young there, it is slow.",
            queries=(
                Query(
                    f"max by (service, site, group, topic) (pharmaloop_group_lag_seconds{{{_CHOSEN}}})",
                    "{{group}} {{topic}}",
                ),
            ),
            links=(_OF_SERVICE, STATUS),
            width=12,
            height=10,
            alerts=("RecordsWait",),
        ),
        Panel(
            "Not got on since",
            "lines",
            "s",
            shows="How long a runner has not got on in a partition where records wait.",
            do="Above the line one record or fault is tried again and again: the log of its service names "
            "it.",
            queries=(_by_runner("pharmaloop_watermark_age_seconds"),),
            links=(_OF_SERVICE, STATUS),
            width=12,
            height=10,
            alerts=("RunnerStuck",),
        ),
        Panel(
            "Records that wait",
            "lines",
            "suffix:records",
            shows="Records between a runner and the end of its topics.",
            do="If it only grows, the runner is too slow: give its service another instance, up to the "
            "partitions.",
            queries=(_by_runner("pharmaloop_runner_lag_records"),),
            links=(_OF_SERVICE, STATUS),
        ),
        Panel(
            "What readers see is old",
            "lines",
            "s",
            shows="How old what a projector's readers see is.",
            do="Pages rest on it: say so to who decides by them, and find what the projector waits for.",
            queries=(_by_runner("pharmaloop_projector_delay_seconds"),),
            links=(_OF_SERVICE, STATUS),
            alerts=("ViewsBehind",),
        ),
        Panel(
            "Sources that wait",
            "lines",
            "suffix:records",
            shows="Sources whose events refer to something that has not arrived.",
            do="Old ones point at a record that was lost before the platform: the runbook says how to find "
            "it.",
            queries=(_by_runner("pharmaloop_runner_waiting_sources"),),
            links=(_OF_SERVICE, STATUS),
            alerts=("EventsWait",),
        ),
        Panel(
            "Runners that run",
            "stat",
            "suffix:runners",
            shows="Runners of each service that turn, over all its instances.",
            do="One fewer than before: read the log of that service, then restart it.",
            queries=(
                Query(f"sum by (service, site) (pharmaloop_runner_up{{{_CHOSEN}}})", "{{service}} {{site}}"),
            ),
            links=(_OF_SERVICE, STATUS),
            width=12,
            alerts=("RunnerDown",),
            levels=Levels(),
        ),
        Panel(
            "A batch",
            "lines",
            "s",
            shows="99 of 100 batches of a runner were folded and committed in no more than this time.",
            do="Beyond a second it takes smaller ones by itself; if that does not help, the database is "
            "slow.",
            queries=(Query(f"pharmaloop:batch_seconds:p99_5m{{{_CHOSEN}}}", _BY_RUNNER),),
            links=(_OF_SERVICE, STATUS),
            width=12,
            empty="nothing was done in this time",
        ),
    ),
)

_AGAIN = Row(
    "Again, and taken over",
    (
        Panel(
            "Batches tried again",
            "lines",
            "suffix:times",
            shows="Batches that were tried again after a fault that passes, within a quarter of an hour.",
            do="A few are well. Many without end are a fault that does not pass: the log names it.",
            queries=(
                Query(
                    f"sum by (service, site, runner) "
                    f"(increase(pharmaloop_runner_retries_total{{{_CHOSEN}}}[15m]))",
                    _BY_RUNNER,
                ),
            ),
            links=(_OF_SERVICE, STATUS),
            empty="none yet",
        ),
        Panel(
            "Work that was taken over",
            "lines",
            "suffix:times",
            shows="How often a process came back and found its work taken over, within a quarter of an hour.",
            do="Nothing was done twice, but a process stood still for long: find what pauses its machine.",
            queries=(
                Query(
                    f"sum by (service, site, part) (increase(pharmaloop_fenced_total{{{_CHOSEN}}}[15m]))",
                    "{{service}} {{site}} {{part}}",
                ),
            ),
            links=(_OF_SERVICE, STATUS),
            alerts=("WorkFenced",),
        ),
        Panel(
            "Commits of the loops hang",
            "lines",
            "s",
            shows="How long the committed place of a loop has stood still while it took records.",
            do="Above the line restart the loops now: nothing is lost, but the next restart takes all again.",
            queries=(
                Query(
                    f"max by (service, runner) (pharmaloop_loop_commit_stalled_seconds{{{_CHOSEN}}})",
                    "{{service}} {{runner}}",
                ),
            ),
            links=(board("loops"), STATUS),
            alerts=("LoopCommitsHang",),
            empty="no loop is chosen",
        ),
    ),
)

BOARD = Board(
    uid("backbone"),
    "PharmaLoop: Backbone",
    "Kafka as the services see it: what waits before it, what waits after it, and who stands still.",
    (_REACHED, _BEFORE, _AFTER, _AGAIN),
    variables=(Choice("service", "Service", "pharmaloop_ready"),),
    links=(STATUS, portal("what waits for a person", "/waiting")),
)
