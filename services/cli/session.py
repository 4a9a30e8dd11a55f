"""One run of the command: its endpoints, its actor, its output, its way to call.

A refusal of a service becomes one plain sentence with reason and field on
stderr and exit status 2; a stack trace never reaches the user.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import click
import grpc
from google.protobuf.message import Message
from rich.console import Console

from pharmaloop.alerting.v1 import service_pb2_grpc as alerting_grpc
from pharmaloop.clinical.v1 import service_pb2_grpc as clinical_grpc
from pharmaloop.common.v1 import changes_pb2_grpc as changes_grpc
from pharmaloop.common.v1 import operations_pb2_grpc as operations_grpc
from pharmaloop.common.v1 import service_pb2_grpc as common_grpc
from pharmaloop.exchange.v1 import service_pb2_grpc as exchange_grpc
from pharmaloop.loops.v1 import service_pb2_grpc as loops_grpc
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.rnd.v1 import service_pb2_grpc as rnd_grpc
from pharmaloop.traceability.v1 import service_pb2_grpc as traceability_grpc
from services.cli.asked import Asked, Signpost, asked_of, why
from services.cli.calls import as_typed
from services.cli.endpoints import Endpoints, NoEndpoints, find_endpoints, state_dir
from services.cli.tables import console
from services.kit import hospitals
from services.kit.errors import Invalid
from services.kit.ids import parse_lot
from services.kit.rpc.client import metadata, sync_channel
from services.kit.rpc.errors import reason_of

M = TypeVar("M", bound=Message)
SECONDS = 10.0
#: What one does after a refusal, by its status code; the sentence itself may say more.
_NEXT = {
    grpc.StatusCode.INVALID_ARGUMENT: "correct what is named, and give the command again",
    grpc.StatusCode.NOT_FOUND: "{look} shows what there is",
    grpc.StatusCode.FAILED_PRECONDITION: "{look} tells where it stands",
    grpc.StatusCode.ALREADY_EXISTS: "{look} tells what is on record",
    grpc.StatusCode.PERMISSION_DENIED: "another person has to do it: --actor says who you are",
    grpc.StatusCode.ABORTED: "somebody was first: look again, then give the command again if it still holds",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "wait for what it names, then give the command again",
    grpc.StatusCode.UNAVAILABLE: "try again in a moment; 'pharmaloop status' shows who is behind",
    grpc.StatusCode.CANCELLED: "give the command again: the connection was given up",
    grpc.StatusCode.OUT_OF_RANGE: "begin anew: give the command without a position",
    grpc.StatusCode.DATA_LOSS: "tell the platform's operator: what is stored contradicts itself",
    grpc.StatusCode.UNAUTHENTICATED: "say who you are with --actor",
    grpc.StatusCode.UNIMPLEMENTED: "look whether the address is this service's; if so, it is older than this "
    "command: upgrade it",
    grpc.StatusCode.INTERNAL: "the service's log has more; 'pharmaloop status' shows how it does",
}
_PAGE = 1000


class Failure(click.ClickException):
    """It cannot be done as it was asked: what is wrong and what to do, in a sentence; exit status 2."""

    exit_code = 2
    #: What one does after it, where the failure itself names nothing nearer.
    usual = "correct what is named, and give the command again; '{path} -h' shows how it is given"

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        #: What one does now; never empty.
        self.next_step = next_step or self.usual.format(path=_path(), look=_where_to_look())

    def show(self, file: Any = None) -> None:
        click.echo(f"pharmaloop: {self.format_message()}", file=file, err=True)
        click.echo(f"  next: {self.next_step}", file=file, err=True)

    def also(self, more: str) -> Failure:
        """The same failure, with more to say."""
        told = Failure(f"{self.message}{more}", self.next_step)
        told.exit_code = self.exit_code
        return told


class Missing(Failure):
    """What is named is not there; exit status 1."""

    exit_code = 1
    usual = "{look} shows what there is"


class UnknownSite(Missing):
    """A hospital that has no process here."""

    #: As a hospital refuses what is meant for another.
    reason, field = "UNKNOWN_SITE", "site"


class Unreachable(Failure):
    """Who should answer does not, or it is not known where they listen; exit status 3."""

    exit_code = 3
    usual = "give the command again; 'pharmaloop status' shows who answers"


class Refused(Failure):
    """A call that a service refused: the status code, the reason and the field, beside the sentence.

    Exit status 1. The next step stands on a line of its own.
    """

    exit_code = 1

    def __init__(
        self, code: grpc.StatusCode, reason: str, field: str, description: str, asked: Asked | None = None
    ) -> None:
        told = f"{reason or code.name}, field {field}" if field else reason or code.name
        doubtful = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED)
        who = f"{asked}: " if asked and doubtful else ""
        super().__init__(
            f"{who}{description} ({told})",
            _NEXT.get(code, _NEXT[grpc.StatusCode.INTERNAL]).format(look=_where_to_look()),
        )
        if code == grpc.StatusCode.UNAVAILABLE:
            self.exit_code = Unreachable.exit_code
        self.code = code
        self.reason = reason
        self.field = field
        self.description = description


def _path() -> str:
    """The command as it was typed so far."""
    context = click.get_current_context(silent=True)
    return context.command_path if context else "pharmaloop"


def _where_to_look() -> str:
    """The verbs that show how things are, of the noun that is asked."""
    context = click.get_current_context(silent=True)
    noun = context.parent if context else None
    if context is None or noun is None or noun.parent is None or not isinstance(noun.command, click.Group):
        return "'pharmaloop status'"
    verbs = [verb for verb in ("list", "show") if verb in noun.command.commands and verb != context.info_name]
    found = [f"'{noun.command_path} {verb}'" for verb in verbs]
    return " or ".join(found) or "'pharmaloop lineage show'"


class News(Protocol):
    """What was shown before, while somebody watches."""

    def is_news(self, document: Any) -> bool: ...

    def head(self, out: Console) -> None: ...


@dataclass
class Session:
    """Options that every command shares."""

    endpoints_option: str = ""
    actor: str = ""
    as_json: bool = False
    #: What the signature under a decision means.
    meaning: str = ""
    #: What a watch has shown; None where nobody watches.
    seen: News | None = None
    _channels: dict[str, grpc.Channel] = field(default_factory=dict)

    @cached_property
    def endpoints(self) -> Endpoints:
        try:
            return find_endpoints(self.endpoints_option)
        except NoEndpoints as error:
            said = "start a platform, or say where one listens; then give the command again"
            raise Unreachable(str(error), said) from None

    @property
    def state(self) -> Path:
        """The state folder, for what is only on disk (the world's truth)."""
        folder = state_dir()
        if folder is None:
            raise Failure("there is no .state folder here or above; set PHARMALOOP_STATE_DIR")
        return folder

    @cached_property
    def production(self) -> production_grpc.ProductionServiceStub:
        return production_grpc.ProductionServiceStub(self.channel("production"))

    @cached_property
    def traceability(self) -> traceability_grpc.TraceabilityServiceStub:
        return traceability_grpc.TraceabilityServiceStub(self.channel("traceability"))

    @cached_property
    def clinical(self) -> clinical_grpc.ClinicalServiceStub:
        return clinical_grpc.ClinicalServiceStub(self.channel("clinical"))

    def clinical_at(self, site: str) -> clinical_grpc.ClinicalServiceStub:
        """The process of a site, UnknownSite without one. That of the first may be called clinical alone."""
        known = self.endpoints.sites
        if not known:
            return self.clinical  # which says that it has no address
        if site not in known:
            source = self.endpoints.source
            said = f"name one of these, or give clinical.{site or 'SITE'} its address in {source}"
            if known.get(self.endpoints.first_site) == hospitals.CLINICAL:
                said += "; PHARMALOOP_SITES says whose process is called clinical alone (its first)"
            raise UnknownSite(hospitals.unknown(site, known), said)
        return clinical_grpc.ClinicalServiceStub(self.channel(known[site]))

    @cached_property
    def loops(self) -> loops_grpc.LoopsServiceStub:
        return loops_grpc.LoopsServiceStub(self.channel("loops"))

    @cached_property
    def rnd(self) -> rnd_grpc.RndServiceStub:
        return rnd_grpc.RndServiceStub(self.channel("rnd"))

    @cached_property
    def exchange(self) -> exchange_grpc.ExchangeServiceStub:
        return exchange_grpc.ExchangeServiceStub(self.channel("exchange"))

    @cached_property
    def alerting(self) -> alerting_grpc.AlertingServiceStub:
        return alerting_grpc.AlertingServiceStub(self.channel("alerting"))

    def status_of(self, service: str) -> common_grpc.StatusServiceStub:
        return common_grpc.StatusServiceStub(self.channel(service))

    def changes_of(self, service: str) -> changes_grpc.ChangesServiceStub:
        return changes_grpc.ChangesServiceStub(self.channel(service))

    def operations_of(self, service: str) -> operations_grpc.OperationsServiceStub:
        return operations_grpc.OperationsServiceStub(self.channel(service))

    def channel(self, service: str) -> grpc.Channel:
        """The connection to a service, made once."""
        if service not in self._channels:
            address = self.endpoints.grpc.get(service)
            if not address:
                known = ", ".join(sorted(self.endpoints.grpc)) or "none"
                source = self.endpoints.source
                raise Unreachable(
                    f"{source} does not say where {service} listens (it names: {known})",
                    f"give {service} its address in {source}; 'pharmaloop status' shows those that are known",
                )
            asked = Asked(service, address, self.endpoints.source)
            try:
                connected = sync_channel(address)
            except Invalid as error:
                raise Failure(error.description, "correct the environment; docs/tls.md says how") from None
            self._channels[service] = grpc.intercept_channel(connected, Signpost(asked))
        return self._channels[service]

    def call(self, method: Callable[..., M], request: Message, seconds: float = SECONDS) -> M:
        """The answer of a call, which is signed where it is a decision, or Refused with reason and field."""
        signed: Any = request
        if self.meaning and "meaning" in request.DESCRIPTOR.fields_by_name and not signed.meaning:
            signed.meaning = self.meaning
        with plain_errors():
            return method(request, timeout=seconds, metadata=metadata(self.actor))

    def stream(self, method: Callable[..., Iterator[M]], request: Message, seconds: float) -> Iterator[M]:
        """The messages of a streaming call, or Failure."""
        with plain_errors():
            yield from method(request, timeout=seconds, metadata=metadata(self.actor))

    def pages(self, method: Callable[..., M], request: Any, most: int = 0) -> Iterator[M]:
        """The pages of a list: all, or as many as hold `most` items."""
        request.page_size = min(most, _PAGE) or _PAGE
        while True:
            answer = self.call(method, request)
            yield answer
            request.page_token = getattr(answer, "next_page_token", "")
            if not request.page_token or most:
                return

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def show(self, document: dict[str, Any], people: Callable[[Console], None]) -> None:
        """One JSON document on stdout for programs, tables for people."""
        if self.seen and not self.seen.is_news(document):
            return
        if self.as_json:
            click.echo(json.dumps(document, ensure_ascii=False))
            return
        out = console()
        if self.seen:
            self.seen.head(out)
        people(out)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what gRPC raises into one sentence."""
    try:
        yield
    except grpc.RpcError as error:
        _fail(error)


def _fail(error: Any) -> NoReturn:
    code: grpc.StatusCode = error.code()
    asked = asked_of(error)
    who = asked or "the service"
    reason, where = reason_of(error)
    if code == grpc.StatusCode.UNAVAILABLE and not reason:
        mend = f"; if the address is wrong, mend it in {asked.source}" if asked else ""
        raise Unreachable(
            f"{who} does not answer: {why(error.details(), asked.address if asked else '')} (UNAVAILABLE)",
            f"'pharmaloop status' shows which are up{mend}",
        ) from None
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        raise Unreachable(f"{who} did not answer in time (DEADLINE_EXCEEDED); try again") from None
    said = as_typed(error.details() or "the call failed")
    raise Refused(code, reason, where, said, asked) from None


class LotArgument(click.ParamType):
    """A canonical lot key; a bare lot string is refused, never guessed."""

    name = "lot"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parse_lot(str(value))
        except Invalid as error:
            self.fail(
                f"{error.description}, for example maker-1/item/granulate/G-0041; "
                "'pharmaloop deviation list' and 'pharmaloop run list' show keys",
                param,
                ctx,
            )
        return str(value)


LOT_KEY = LotArgument()
