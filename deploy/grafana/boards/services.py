"""Services: rate, errors and duration of calls and handlers, and what their processes use."""

from __future__ import annotations

from deploy.grafana.alerts import BURN, burn
from deploy.grafana.links import STATUS, board, column, label, uid
from deploy.grafana.model import Board, Choice, Levels, Panel, Query, Row

_CHOSEN = 'service=~"$service"'
_NAMED = "{{service}} {{site}}"
_BACKBONE = board("backbone", service=label("service"))
_LOOPS = board("loops")
_PROCESS = "{{service}} {{site}} {{instance}}"

_CALLS = Row(
    "Calls",
    (
        Panel(
            "Rate",
            "lines",
            "reqps",
            shows="Calls that a service answers, a second.",
            do="None where people work: it is not reached. Much more than usual: see which method below.",
            queries=(Query(f"sum by (service, site) (pharmaloop:rpc:rate5m{{{_CHOSEN}}})", _NAMED),),
            links=(STATUS, _BACKBONE),
        ),
        Panel(
            "Errors",
            "lines",
            "percentunit",
            shows="Share of calls within five minutes that failed by the platform's fault; refusals are "
            "answers.",
            do="The log of the service names method and cause; UNAVAILABLE alone is what it stands on.",
            queries=(
                Query(
                    f"sum by (service, site) (pharmaloop:rpc_errors:rate5m{{{_CHOSEN}}}) / "
                    f"sum by (service, site) (pharmaloop:rpc:rate5m{{{_CHOSEN}}})",
                    _NAMED,
                ),
            ),
            links=(STATUS, _BACKBONE),
            levels=Levels(ticket=0.001),
            alerts=("RpcAvailabilityBudget",),
            empty="no call has failed yet",
        ),
        Panel(
            "Duration",
            "lines",
            "s",
            shows="99 of 100 calls of the slowest method of each service took no longer than this.",
            do="Streams of changes last as long as somebody looks; for others see whether its database is "
            "slow.",
            queries=(Query(f"max by (service, site) (pharmaloop:rpc_seconds:p99_5m{{{_CHOSEN}}})", _NAMED),),
            links=(STATUS, _BACKBONE),
            empty="no call was answered in this time",
        ),
        Panel(
            "Method by method",
            "table",
            "reqps",
            shows="Each method that was called within five minutes: failed and all calls a second, and the "
            "time "
            "that 99 of 100 took.",
            do="Sort by what hurts; the first column that is coloured names what to look for in the log.",
            queries=(
                Query(
                    f"max by (service, site, method) (pharmaloop:rpc_errors:rate5m{{{_CHOSEN}}} > 0)",
                    "failed",
                ),
                Query(f"max by (service, site, method) (pharmaloop:rpc:rate5m{{{_CHOSEN}}} > 0)", "calls"),
                Query(
                    f"max by (service, site, method) (pharmaloop:rpc_seconds:p99_5m{{{_CHOSEN}}} >= 0)",
                    "99 of 100",
                    "s",
                ),
            ),
            links=(STATUS, board("backbone", service=column("service"))),
            width=16,
            height=10,
            levels=Levels(ticket=0.001),
            empty="no call was answered in this time",
        ),
        Panel(
            "Budget of failed calls",
            "lines",
            "suffix:× budget",
            shows="How many times as fast as it may each service uses up the calls that it may fail in a "
            "month.",
            do="Above the upper line somebody is woken: see errors and method by method.",
            queries=(
                Query(burn("rpc-availability", "1h"), f"{_NAMED} 1h"),
                Query(burn("rpc-availability", "6h"), f"{_NAMED} 6h"),
            ),
            links=(STATUS, _BACKBONE),
            height=10,
            alerts=("RpcAvailabilityBudget",),
            levels=BURN,
            empty="no call has failed yet",
        ),
    ),
)

_HANDLERS = Row(
    "Handlers of events",
    (
        Panel(
            "Rate",
            "lines",
            "cps",
            shows="Events that the handlers of a service have had, a second.",
            do="None while its topics grow: see on the backbone whether its runners run.",
            queries=(Query(f"sum by (service, site) (pharmaloop:handled:rate5m{{{_CHOSEN}}})", _NAMED),),
            links=(_BACKBONE, STATUS),
        ),
        Panel(
            "Errors",
            "lines",
            "cps",
            shows="Events that became dead letters, a second, by runner and type.",
            do="Each is settled by hand: the dead letters' page and runbook say how.",
            queries=(
                Query(
                    f"sum by (service, site, runner, type) (pharmaloop:handled_errors:rate5m{{{_CHOSEN}}}) "
                    "> 0",
                    "{{site}} {{runner}} {{type}}",
                ),
            ),
            links=(board("trust"), STATUS),
            alerts=("InputEffectBudget",),
            levels=Levels(),
            empty="no event became a dead letter",
        ),
        Panel(
            "Duration",
            "lines",
            "s",
            shows="99 of 100 records had their effect in no more than this time after they came to be.",
            do="It counts the time that a record waits: beside a long lag it is the lag that is to be "
            "mended.",
            queries=(Query(f"pharmaloop:runner_age:p99_5m{{{_CHOSEN}}}", "{{site}} {{runner}}"),),
            links=(_BACKBONE, STATUS),
            empty="nothing was done in this time",
        ),
    ),
)

_COMMANDS = Row(
    "Commands, steps, streams",
    (
        Panel(
            "Commands that wait",
            "lines",
            "suffix:commands",
            shows="Commands of people and programs that wait to be decided.",
            do="Near the line callers are told to come again: is the database slow, or one caller too fast?",
            queries=(Query(f"max by (service, site) (pharmaloop_decider_waiting{{{_CHOSEN}}})", _NAMED),),
            links=(STATUS, _BACKBONE),
            alerts=("CommandsQueue",),
            empty="no command was given yet",
        ),
        Panel(
            "A decision",
            "lines",
            "s",
            shows="99 of 100 groups of commands were decided and committed in no more than this time.",
            do="It is the database's time, mostly: look at the database before the service.",
            queries=(
                Query(
                    "histogram_quantile(0.99, sum by (service, site, le) "
                    f"(rate(pharmaloop_decider_seconds_bucket{{{_CHOSEN}}}[5m])))",
                    _NAMED,
                ),
            ),
            links=(STATUS, _BACKBONE),
            empty="nothing was decided in this time",
        ),
        Panel(
            "Commands in a group",
            "lines",
            "suffix:commands",
            shows="Commands that are committed in one transaction, on average.",
            do="It grows by itself under load; at one each while many wait, the decider stands.",
            queries=(
                Query(
                    "sum by (service, site) "
                    f"(rate(pharmaloop_decider_group_commands_sum{{{_CHOSEN}}}[5m])) / "
                    f"sum by (service, site) "
                    f"(rate(pharmaloop_decider_group_commands_count{{{_CHOSEN}}}[5m]))",
                    _NAMED,
                ),
            ),
            links=(STATUS, _BACKBONE),
            empty="nothing was decided in this time",
        ),
        Panel(
            "Steps that are overdue",
            "lines",
            "s",
            shows="By how much the oldest step that is due is late: deadlines, follow-ups, escalations.",
            do="Does its service run? Its status names what the step fails at.",
            queries=(
                Query(
                    f"max by (service, site, step) (pharmaloop_step_overdue_seconds{{{_CHOSEN}}})",
                    "{{service}} {{site}} {{step}}",
                ),
            ),
            links=(STATUS, _BACKBONE),
            alerts=("StepOverdue",),
        ),
        Panel(
            "Steps that run",
            "lines",
            "suffix:steps",
            shows="Steps that run now, over all instances of a service.",
            do="The same number for long, with overdue steps beside it, is a step that hangs: restart its "
            "service.",
            queries=(Query(f"sum by (service, site) (pharmaloop_step_running{{{_CHOSEN}}})", _NAMED),),
            links=(STATUS, _BACKBONE),
        ),
        Panel(
            "Streams of changes",
            "lines",
            "suffix:streams",
            shows="Streams of changes that stand: one for each page that somebody follows, and each program.",
            do="Near the service's setting MOST_SUBSCRIPTIONS further ones are refused: raise it, or add "
            "an instance.",
            queries=(Query(f"sum by (service, site) (pharmaloop_subscriptions{{{_CHOSEN}}})", _NAMED),),
            links=(STATUS, _BACKBONE),
            empty="nobody has followed anything yet",
        ),
    ),
)

_PAGES = Row(
    "Pages of the portal",
    (
        Panel(
            "Pages asked for",
            "lines",
            "reqps",
            shows="Requests of browsers that the portal answers, a second, by page; all services share it.",
            do="None where people work: the portal is not reached, or its ingress leads elsewhere.",
            queries=(
                Query("sum by (page) (rate(pharmaloop_page_seconds_count[$__rate_interval]))", "{{page}}"),
            ),
            links=(STATUS, _LOOPS),
            empty="nobody has opened a page yet",
        ),
        Panel(
            "Pages that failed",
            "lines",
            "reqps",
            shows="Pages, a second, that could not be made: a service was away, or the portal is wrong.",
            do="Errors of the calls above name the service; where there are none, the log of the portal says "
            "which page and why.",
            queries=(
                Query(
                    "sum by (page) "
                    "(rate(pharmaloop_page_seconds_count{outcome='failed'}[$__rate_interval])) > 0",
                    "{{page}}",
                ),
            ),
            links=(STATUS, _LOOPS),
            levels=Levels(),
            empty="no page failed",
        ),
        Panel(
            "Duration of pages",
            "lines",
            "s",
            shows="95 of 100 answers of a page took no longer than this.",
            do="A page waits for the slowest service that it asks: see the duration of the calls above.",
            queries=(
                Query(
                    "histogram_quantile(0.95, sum by (page, le) "
                    "(rate(pharmaloop_page_seconds_bucket[$__rate_interval])))",
                    "{{page}}",
                ),
            ),
            links=(STATUS, _LOOPS),
            empty="nobody has opened a page yet",
        ),
    ),
)

_PROCESSES = Row(
    "Processes",
    (
        Panel(
            "Ready",
            "stat",
            "suffix:processes",
            shows="Processes of each service that can do their work.",
            do="At 0 open the status, which names the part that does not do and the setting that mends it.",
            queries=(Query(f"sum by (service, site) (pharmaloop_ready{{{_CHOSEN}}})", _NAMED),),
            links=(STATUS, _BACKBONE),
            width=16,
            alerts=("ServiceNotReady",),
        ),
        Panel(
            "In trouble",
            "bars",
            "suffix:processes",
            shows="1 for each part that a service stands on and that does not do.",
            do="Database and Kafka: see the backbone. State folder: free some space on its volume.",
            queries=(
                Query(
                    f"max by (service, site, part) (pharmaloop_trouble{{{_CHOSEN}}})",
                    "{{service}} {{site}} {{part}}",
                ),
            ),
            links=(_BACKBONE, STATUS),
            alerts=("StateFolderUnwritable", "DatabaseUnreachable", "KafkaUnreachable"),
            levels=Levels(page=1),
        ),
        Panel(
            "Answers Prometheus",
            "stat",
            "suffix:processes",
            shows="Processes of each service that answer when they are asked for their numbers.",
            do="One fewer than there should be is dead, frozen or cut off: restart it.",
            queries=(Query(f"sum by (service, site) (up{{job='pharmaloop', {_CHOSEN}}})", _NAMED),),
            links=(STATUS, _BACKBONE),
            alerts=("ServiceGone",),
            levels=Levels(page=1, below=True),
        ),
        Panel(
            "Clock",
            "lines",
            "s",
            shows="By how much the database's clock is ahead of the machine's.",
            do="The platform follows the database's; mend the machine's time service before certificates "
            "fail.",
            queries=(
                Query(
                    f"max by (service, site, instance) (abs(pharmaloop_clock_skew_seconds{{{_CHOSEN}}}))",
                    _PROCESS,
                ),
            ),
            links=(STATUS, _BACKBONE),
            alerts=("ClockSkew",),
        ),
        Panel(
            "Certificates",
            "lines",
            "s",
            shows="How long the certificates still hold that a process uses, and those of their authorities.",
            do="Below two weeks nobody renewed it, or the old one is still in use; below zero it expired.",
            queries=(
                Query(
                    f"min by (service, site, part) (pharmaloop_certificate_expires_seconds{{{_CHOSEN}}})",
                    "{{service}} {{site}} {{part}}",
                ),
            ),
            links=(STATUS, _BACKBONE),
            alerts=("CertificateExpires",),
            empty="no certificates are used",
        ),
        Panel(
            "Processor",
            "lines",
            "suffix:cores",
            shows="Cores of the processor that a process uses.",
            do="Near 1 it does not get faster with more of them: give its service another instance.",
            queries=(
                Query(
                    "sum by (service, site, instance) "
                    f"(rate(process_cpu_seconds_total{{job='pharmaloop', {_CHOSEN}}}[$__rate_interval]))",
                    _PROCESS,
                ),
            ),
            links=(STATUS, _BACKBONE),
            width=6,
        ),
        Panel(
            "Memory",
            "lines",
            "bytes",
            shows="Memory that a process holds in use.",
            do="One that only rises over days is a leak: note its version, restart it, and tell who makes "
            "it.",
            queries=(
                Query(
                    "max by (service, site, instance) "
                    f"(process_resident_memory_bytes{{job='pharmaloop', {_CHOSEN}}})",
                    _PROCESS,
                ),
            ),
            links=(STATUS, _BACKBONE),
            width=6,
        ),
        Panel(
            "File descriptors",
            "lines",
            "percentunit",
            shows="Share of the file descriptors that a process may have.",
            do="At the limit it accepts no connection: raise its limit, and find what holds connections.",
            queries=(
                Query(
                    "max by (service, site, instance) "
                    f"(process_open_fds{{job='pharmaloop', {_CHOSEN}}} / "
                    f"process_max_fds{{job='pharmaloop', {_CHOSEN}}})",
                    _PROCESS,
                ),
            ),
            links=(STATUS, _BACKBONE),
            width=6,
            alerts=("FileDescriptorsLow",),
        ),
        Panel(
            "Starts",
            "lines",
            "suffix:starts",
            shows="How often a process was started anew within an hour.",
            do="More than its release explains: read the end of its log, it names why it ended.",
            queries=(
                Query(
                    "sum by (service, site) "
                    f"(changes(process_start_time_seconds{{job='pharmaloop', {_CHOSEN}}}[1h]))",
                    _NAMED,
                ),
            ),
            links=(STATUS, _BACKBONE),
            width=6,
        ),
    ),
)

BOARD = Board(
    uid("services"),
    "PharmaLoop: Services",
    "Rate, errors and duration of calls and handlers of each service, and what its processes use.",
    (_CALLS, _HANDLERS, _COMMANDS, _PAGES, _PROCESSES),
    variables=(Choice("service", "Service", "pharmaloop_ready"),),
    links=(STATUS,),
)
