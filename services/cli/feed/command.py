"""`feed`: a user's own files into the platform. Each noun is one declaration; this is what they share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from services.cli.endpoints import state_dir
from services.cli.feed import readings, report
from services.cli.feed.columns import Column, lay_out
from services.cli.feed.dispenses import DISPENSES, MEDICATIONS
from services.cli.feed.files import open_table
from services.cli.feed.mapping import Mapping, checked, read_mapping
from services.cli.feed.materials import MATERIALS
from services.cli.feed.noun import Noun
from services.cli.feed.patients import PATIENTS
from services.cli.feed.rejects import Rejects, rejects_path
from services.cli.feed.results import RESULTS
from services.cli.feed.resume import Progress
from services.cli.feed.runs import Runs, Wishes
from services.cli.feed.send import Feed, Outcome, feed_facts
from services.cli.feed.template import template
from services.cli.feed.training import Lesson, train
from services.cli.group import Noun as Group
from services.cli.group import example_text
from services.cli.session import Failure, Session

C = TypeVar("C", bound=Callable[..., Any])


@dataclass
class Job:
    """One start of the command, and what has become of its files so far."""

    session: Session
    noun: str
    files: tuple[Path, ...]
    mapping: Mapping
    dry: bool
    again: bool
    rejects: Path | None
    outcomes: list[Outcome] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)

    def run(self, columns: Sequence[Column], send: Callable[[Feed], None], *, tags: bool = False) -> None:
        """Feed the files one after the other. Failure stops at the file it is about."""
        for file in self.files:
            table = open_table(file, self.mapping.encoding, self.mapping.delimiter)
            layout = lay_out(columns, table, self.mapping, tags=tags)
            rejects = self.rejects or rejects_path(file)
            outcome = Outcome(str(file), ignored=list(layout.rest.values()))
            progress = Progress(self._folder(file), table, self.mapping, self.noun, self._platform())
            outcome.before = not self.dry and not progress.begin(rejects, again=self.again)
            state = progress.state
            outcome.taken, outcome.rejected = state.taken, Counter(state.rejected)
            writes = not outcome.before and (not self.dry or self.rejects is not None)
            written = Rejects(rejects, table, state.rejects_bytes) if writes else None
            with report.bar(self.session, file.name, table.size) as moved, _stops(file, progress):
                feed = Feed(
                    self.session, table, layout, progress, written, self.dry, outcome, moved, state.row
                )
                try:
                    send(feed)
                finally:
                    if written:
                        written.close()
            outcome.rejects = str(rejects) if written and outcome.rejected else ""
            self.outcomes.append(outcome)

    def _folder(self, file: Path) -> Path | None:
        """Where progress is kept: with the platform's own state, else beside the file."""
        if self.dry:
            return None
        state = state_dir()
        return state / "feed" if state else file.parent / ".pharmaloop-feed"

    def _platform(self) -> str:
        return "" if self.dry else json.dumps(self.session.endpoints.grpc, sort_keys=True)

    def document(self) -> dict[str, Any]:
        return {
            "noun": self.noun,
            "dry_run": self.dry,
            "rows": sum(outcome.rows for outcome in self.outcomes),
            "taken": sum(outcome.taken for outcome in self.outcomes),
            "rejected": sum(outcome.rejected.total() for outcome in self.outcomes),
            "files": [outcome.document() for outcome in self.outcomes],
            "models": self.models,
        }

    def print(self, out: Console) -> None:
        report.show(out, self.outcomes, dry=self.dry)
        for product, version in self.models.items():
            out.print(f"{product}: model {version} is in force", markup=False)


@contextmanager
def _stops(file: Path, progress: Progress) -> Iterator[None]:
    """Whatever stops a feed, say from where the next start goes on."""
    try:
        yield
    except (KeyboardInterrupt, OSError, Failure) as error:
        row = progress.state.row
        so_far = (
            f"; {file} is dealt with up to row {row}, and the same command goes on from there" if row else ""
        )
        stopped = error if isinstance(error, Failure) else Failure(str(error) or "stopped")
        raise stopped.also(so_far) from None


@contextmanager
def _plainly() -> Iterator[None]:
    """What the machine says, as a sentence."""
    try:
        yield
    except (KeyboardInterrupt, OSError) as error:
        raise Failure(str(error) or "stopped") from None


# -- the commands -----------------------------------------------------------


feed = Group("feed", "Your own CSV and Parquet files into the platform; docs/data-formats.md has more.")


def _examples(noun: str) -> str:
    return example_text(
        f"pharmaloop feed {noun} --template",
        f"pharmaloop feed {noun} {noun}.csv -m mapping.yaml --dry-run",
        f"pharmaloop feed {noun} {noun}.csv -m mapping.yaml",
    )


def _with_options(command: C) -> C:
    """The options that every noun has."""
    path = click.Path(exists=True, dir_okay=False, path_type=Path)
    anywhere = click.Path(dir_okay=False, path_type=Path)
    for option in reversed(
        (
            click.argument("files", nargs=-1, type=path, metavar="FILE..."),
            click.option("--mapping", "-m", type=path, help="What your file calls things: YAML or JSON."),
            click.option("--template", is_flag=True, help="Print a mapping with every column explained."),
            click.option("--dry-run", is_flag=True, help="Read and judge everything, send nothing."),
            click.option("--rejects", type=anywhere, help="Where rejected rows go; else beside the file."),
            click.option("--again", is_flag=True, help="Send the whole file once more; it has one effect."),
            click.option("--zone", default="", help="Where the file's clocks stand: Asia/Shanghai, +08:00."),
            click.option(
                "--date-format", default="", help="How moments are written: '%d.%m.%Y', or 'excel'."
            ),
            click.option("--delimiter", default="", help="What parts the cells."),
            click.option("--encoding", default="", help="How the text is encoded."),
        )
    ):
        command = option(command)
    return command


def _job(session: Session, noun: str, told: dict[str, Any]) -> Job:
    files: tuple[Path, ...] = told["files"]
    if not files:
        raise Failure("name a file to feed; --template prints a mapping for it, --dry-run only looks at it")
    if told["rejects"] and len(files) > 1:
        raise Failure("--rejects is for one file; without it each file has its rejects beside it")
    if told["rejects"] and told["rejects"].resolve() == files[0].resolve():
        raise Failure("--rejects names the file that is fed; give another name")
    mapping = read_mapping(told["mapping"]) if told["mapping"] else Mapping()
    delimiter = "\t" if told["delimiter"] in ("tab", "\\t") else told["delimiter"]
    options = {name: told[name] for name in ("zone", "date_format", "encoding")}
    mapping = checked(mapping.with_options(delimiter=delimiter, **options), "the command line")
    return Job(session, noun, files, mapping, told["dry_run"], told["again"], told["rejects"])


def _run(context: click.Context, job: Job, work: Callable[[], None]) -> None:
    """Do the work and say what became of it, also of the files before the one that stopped it."""
    try:
        with _plainly():
            work()
    except Failure:
        if job.outcomes and not job.session.as_json:
            job.session.show({}, job.print)
        raise
    job.session.show(job.document(), job.print)
    if any(outcome.rejected for outcome in job.outcomes):
        context.exit(1)


def _of(noun: Noun, hospital: Noun | None = None) -> click.Command:
    """The command of a noun; `hospital` is the noun that the hospital's own record of the same rows is."""

    @click.pass_context
    def command(context: click.Context, /, recorder: str = "", **told: Any) -> None:
        if told["template"]:
            click.echo(template(noun.name, noun.tells, noun.columns), nl=False)
            return
        own = hospital if hospital and recorder == "hospital" else noun
        name = f"{noun.name}-hospital" if own is hospital else noun.name
        job = _job(context.obj, name, told)
        _run(context, job, lambda: job.run(own.columns, lambda one: feed_facts(one, own)))

    made = _with_options(command)
    if hospital:
        who = click.Choice(["pharmacy", "hospital"])
        told = "Whose record the list is; the hospital's goes to the hospital's own service."
        made = click.option("--as", "recorder", type=who, default="pharmacy", show_default=True, help=told)(
            made
        )
    return click.command(noun.name, help=noun.tells, epilog=_examples(noun.name))(made)


@feed.command(name=readings.NAME, help=readings.TELLS, epilog=_examples(readings.NAME))
@_with_options
@click.option("--no-register", is_flag=True, help="Do not register equipment that is not known.")
@click.option("--keep-running", is_flag=True, help="Do not complete the lots at their last reading.")
@click.option("--train", "learn", is_flag=True, help="The lots are good runs: train their products' models.")
@click.pass_context
def _readings(
    context: click.Context, /, no_register: bool, keep_running: bool, learn: bool, **told: Any
) -> None:
    if told["template"]:
        click.echo(template(readings.NAME, readings.TELLS, readings.COLUMNS), nl=False)
        return
    job = _job(context.obj, readings.NAME, told)
    wishes, lesson = Wishes(register=not no_register, complete=not keep_running), Lesson()

    def send(one: Feed) -> None:
        form = readings.Form.of(one.layout, one.table)
        one.outcome.ignored = form.ignored
        if one.outcome.before and not learn:
            return
        runs = Runs(one, form, wishes)
        runs.look()
        if not (one.dry or one.outcome.before):
            runs.send()
        lesson.add(runs.survey.runs, one.progress.places())

    def work() -> None:
        job.run(readings.COLUMNS, send, tags=True)
        if learn and not job.dry and not any(outcome.rejected for outcome in job.outcomes):
            job.models = train(job.session, lesson)

    _run(context, job, work)


feed.add_command(_of(MATERIALS))
feed.add_command(_of(DISPENSES, MEDICATIONS))
feed.add_command(_of(PATIENTS))
feed.add_command(_of(RESULTS))
