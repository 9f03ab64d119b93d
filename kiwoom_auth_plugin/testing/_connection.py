"""One client's connection: requests in, answers out in the same order, with the faults a test asked for."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol, cast

from ._answers import Answer
from ._clock import ServerClock
from ._http import MalformedRequest, Request, RequestParser

LINGER = 2.0
"""Seconds in which a client whose request was refused half-way may read that."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # SO_LINGER on, for 0 seconds
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Application(Protocol):
    """What decides about requests."""

    def receive(self, request: Request, connection: "Connection") -> Answer | None:
        """The answer; None: it comes later, by ``connection.answer_soon``."""
        ...

    def refuse(self, error: MalformedRequest, connection: "Connection") -> Answer:
        """The answer to what is no request."""
        ...


class Connection(asyncio.Protocol):
    """The server's end of one connection; lives on the server's loop."""

    def __init__(self, number: int, application: Application, clock: ServerClock, peers: set["Connection"]) -> None:
        self.number = number
        self._application = application
        self._clock = clock
        self._peers = peers
        self._parser = RequestParser()
        self._transport: asyncio.Transport
        self._request: Request | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._at_end = False  # the client has sent all it will send
        self._over = False  # nothing that still comes in matters

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        self._peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - lost is lost
        self._over = True
        self._peers.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if not self._over:
            self._parser.feed(data)
            self._go_on()

    def eof_received(self) -> bool:
        self._at_end = True
        return self._request is not None  # kept open until that is answered

    def answer_soon(self, judge: Callable[[], Answer]) -> None:
        """Answer the request that ``Application.receive`` has put off; callable from any thread.

        Args:
            judge: gives the answer, on the server's thread. A server that was stopped does not ask for it.
        """
        try:
            self._loop.call_soon_threadsafe(self._answer_now, judge)
        except RuntimeError:  # the loop is closed
            return

    def abort(self) -> None:
        """Drop everything."""
        self._transport.abort()

    def _answer_now(self, judge: Callable[[], Answer]) -> None:
        self._begin(judge())
        self._go_on()

    def _go_on(self) -> None:
        while self._request is None and not self._over:
            try:
                self._request = self._parser.next_request()
            except MalformedRequest as error:
                self._refuse(error)
                return
            if self._request is None:
                if self._at_end:
                    self._close()
                elif self._parser.take_continue():
                    self._transport.write(_CONTINUE)
                return
            answer = self._application.receive(self._request, self)
            if answer is not None:
                self._begin(answer)

    def _refuse(self, error: MalformedRequest) -> None:
        """Answer, then swallow what is still coming: closing at once would reset the connection."""
        self._over = True
        self._transport.write(encode(self._application.refuse(error, self), self._clock, keep_alive=False))
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError):  # the client is gone already
                self._transport.write_eof()
        self._later(LINGER, self._transport.close)

    def _begin(self, answer: Answer) -> None:
        if answer.delay:
            self._later(answer.delay, lambda: self._send(answer))
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        request = self._request
        if request is None or self._over:
            return
        if answer.cut == "reset":
            self._reset()
            return
        keep_alive = request.keep_alive and answer.cut is None
        wire = encode(answer, self._clock, keep_alive=keep_alive, cut=answer.cut, method=request.method)
        if answer.drip is None:
            self._transport.write(wire)
            self._end(keep_alive=keep_alive)
        else:
            self._drip(wire, 0, answer.drip, keep_alive=keep_alive)

    def _drip(self, wire: bytes, sent: int, pause: float, *, keep_alive: bool) -> None:
        self._transport.write(wire[sent : sent + 1])
        if sent + 1 < len(wire):
            self._later(pause, lambda: self._drip(wire, sent + 1, pause, keep_alive=keep_alive))
        else:
            self._end(keep_alive=keep_alive)

    def _end(self, *, keep_alive: bool) -> None:
        self._request = None
        if not keep_alive:
            self._close()

    def _close(self) -> None:
        self._over = True
        self._transport.close()

    def _reset(self) -> None:
        self._over = True
        peer: socket.socket = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # the client is gone already
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _later(self, seconds: float, step: Callable[[], None]) -> None:
        def go() -> None:
            step()
            self._go_on()

        self._timer = self._loop.call_later(seconds, go)


def encode(
    answer: Answer, clock: ServerClock, *, keep_alive: bool, cut: str | None = None, method: str = "POST"
) -> bytes:
    """The bytes of an answer, up to where it is cut."""
    if cut == "before":
        return b""
    given = {name.lower() for name, _ in answer.headers}
    lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, '')}"]
    lines += [f"{name}: {value}" for name, value in answer.headers if value]
    if "date" not in given:
        lines.append(f"Date: {_imf_fixdate(clock.now().replace(microsecond=0))}")
    if not given & {"content-length", "transfer-encoding"} and answer.status != HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(answer.body)}")
    if "connection" not in given and not keep_alive:
        lines.append("Connection: close")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if cut == "headers":
        return head[: len(head) // 2]
    if method == "HEAD":
        return head
    return head + (answer.body[: len(answer.body) // 2] if cut == "body" else answer.body)


@lru_cache(maxsize=16)
def _imf_fixdate(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)
