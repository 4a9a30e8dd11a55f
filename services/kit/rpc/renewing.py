"""A channel that goes on with renewed certificates.

A channel of gRPC keeps the certificate that it was made with: when a connection
breaks after that has expired, no other comes about. So calls that begin after a
renewal go over a new channel; those that run, and streams that stand, stay where
they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import grpc
from grpc import aio

from services.kit.settings import TlsSettings, read_settings
from services.kit.tls.identity import Files, Identity, channel_credentials, identity
from services.kit.tracing.calls import interceptors

Options = Sequence[tuple[str, Any]]


class RenewingChannel(aio.Channel):
    """An asynchronous channel that proves who this process is."""

    def __init__(self, target: str, who: Identity, options: Options) -> None:
        self._target, self._who, self._options = target, who, options
        self._files: Files | None = None
        self._channels: list[aio.Channel] = []

    def now(self) -> aio.Channel:
        """The channel for calls that begin now."""
        files = self._who.files()
        if files is not self._files:
            self._files = files
            credentials = channel_credentials(files)
            made = aio.secure_channel(
                self._target, credentials, options=self._options, interceptors=interceptors()
            )
            self._channels.append(made)
        return self._channels[-1]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        for one in self._channels:
            await one.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.now().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.now().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.now().channel_ready()

    def unary_unary(self, *method: Any, **codec: Any) -> Any:
        return _Call(self.now, lambda channel: channel.unary_unary(*method, **codec))

    def unary_stream(self, *method: Any, **codec: Any) -> Any:
        return _Call(self.now, lambda channel: channel.unary_stream(*method, **codec))

    def stream_unary(self, *method: Any, **codec: Any) -> Any:
        return _Call(self.now, lambda channel: channel.stream_unary(*method, **codec))

    def stream_stream(self, *method: Any, **codec: Any) -> Any:
        return _Call(self.now, lambda channel: channel.stream_stream(*method, **codec))


class _Call:
    """A method of a stub, made once for each channel that comes."""

    def __init__(self, now: Callable[[], aio.Channel], make: Callable[[aio.Channel], Any]) -> None:
        self._now, self._make = now, make
        self._of: aio.Channel | None = None
        self._call: Any = None

    def __call__(self, *request: Any, **options: Any) -> Any:
        channel = self._now()
        if channel is not self._of:
            self._of, self._call = channel, self._make(channel)
        return self._call(*request, **options)


def renewing_channel(target: str, options: Options) -> RenewingChannel:
    """With the certificates that the environment names."""
    return RenewingChannel(target, identity(read_settings(TlsSettings)), options)


def blocking_channel(target: str, options: Options) -> grpc.Channel:
    """The same for who blocks, and ends before a certificate does."""
    files = identity(read_settings(TlsSettings)).files()
    return grpc.secure_channel(target, channel_credentials(files), options=options)
