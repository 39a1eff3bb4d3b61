"""The operator's door to a running node: a Unix socket in the data directory, mode 0600.

Whoever may open it owns the data directory, so it asks for no other proof. A request is one line of
JSON, `{"call": name, "arguments": {...}}`, the answer another: `{"result": {...}}` or
`{"error": "a sentence"}`. Several may follow each other on one connection. The server belongs to
the event loop; the client blocks, for commands that have no loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from kvshim.errors import KvshimError, RequestError
from kvshim.logs import Event, Logger

SOCKET_NAME: Final = "admin.sock"

REQUEST_BYTES_MAX: Final = 64 << 10
ANSWER_BYTES_MAX: Final = 16 << 20
CONNECTIONS_MAX: Final = 16
IDLE_TIMEOUT_SECONDS: Final = 30.0

_SOCKET_PATH_BYTES_MAX: Final = 100
"""Linux takes 107 bytes; longer paths are reached through the directory's descriptor."""

Arguments: TypeAlias = Mapping[str, Any]
Handler: TypeAlias = Callable[[Arguments], Awaitable[Arguments]]
"""Takes and returns what JSON can say. Its `KvshimError` or `RequestError` is told the caller."""


class AdminError(KvshimError):
    """The node cannot be reached, or refuses: one sentence."""


class AdminServer:
    """Listens on `path` and answers each call by the handler of its name."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler], log: Logger) -> None:
        self._path = path
        self._handlers = dict(handlers)
        self._log = log
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. The data directory is locked by now, so a socket found there is a dead one."""
        with suppress(FileNotFoundError):
            self._path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _reachable(self._path) as address:
                listener.bind(address)
            # Nobody can connect before `listen`, so the mode is in place in time.
            self._path.chmod(0o600)
            self._server = await asyncio.start_unix_server(
                self._serve, sock=listener, limit=REQUEST_BYTES_MAX
            )
        except OSError as error:
            listener.close()
            reason = error.strerror or str(error)
            raise AdminError(f"cannot listen on {self._path}: {reason}") from error

    async def stop(self) -> None:
        """Close the door and end the calls under way."""
        if self._server is None:
            return
        self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._server = None
        with suppress(FileNotFoundError):
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._connections) >= CONNECTIONS_MAX:
                return
            self._connections.add(task)
            await self._converse(reader, writer)
        except (ConnectionError, TimeoutError):
            pass
        except asyncio.CancelledError:
            pass  # the node stops; nobody waits for this task but `stop`
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_TIMEOUT_SECONDS):
                    line = await reader.readline()
            except ValueError:  # longer than the limit: what follows cannot be told apart
                writer.write(_line({"error": "the request is too long"}))
                await writer.drain()
                return
            if not line.endswith(b"\n"):
                return
            writer.write(_line(await self._answer(line)))
            async with asyncio.timeout(IDLE_TIMEOUT_SECONDS):
                await writer.drain()

    async def _answer(self, line: bytes) -> Arguments:
        try:
            request = json.loads(line)
            name, arguments = request["call"], request.get("arguments", {})
            handler = self._handlers[name]
        except KeyError:
            return {"error": "this version of kvshim does not know that call"}
        except (ValueError, TypeError, AttributeError, RecursionError):
            return {"error": "the request is not one line of JSON as this socket takes it"}
        if not isinstance(arguments, dict):
            return {"error": "the arguments are no JSON object"}
        try:
            return {"result": await handler(arguments)}
        except (KvshimError, RequestError) as error:
            return {"error": str(error)}
        except Exception as error:
            self._log.error(Event.HANDLER_FAILED, method=f"admin {name}", error=repr(error))
            return {"error": "internal error: the node's log says more"}


class AdminClient:
    """Calls to the node that runs on a data directory. Blocks."""

    def __init__(self, path: Path, timeout_seconds: float = 30.0) -> None:
        """`path` is the socket's, `<data-dir>/admin.sock`."""
        self._path = path
        self._timeout_seconds = timeout_seconds

    def call(self, name: str, arguments: Arguments | None = None) -> dict[str, Any]:
        """The call's result. Raises `AdminError` with what the node says, or why it cannot."""
        request = _line({"call": name, "arguments": arguments or {}})
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self._timeout_seconds)
                with _reachable(self._path) as address:
                    connection.connect(address)
                connection.sendall(request)
                with connection.makefile("rb") as answers:
                    line = answers.readline(ANSWER_BYTES_MAX)
        except (FileNotFoundError, ConnectionRefusedError):
            raise AdminError(f"no kvshim runs on the data directory {self._path.parent}") from None
        except TimeoutError:
            raise AdminError(
                f"the node did not answer within {self._timeout_seconds:g} seconds"
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise AdminError(f"cannot reach the node by {self._path}: {reason}") from None
        return _result(line)


def _result(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
        if "error" in answer:
            raise AdminError(str(answer["error"]))
        result: dict[str, Any] = answer["result"]
    except (ValueError, KeyError, TypeError):
        raise AdminError("the node closed the connection before it answered") from None
    return result


def _line(value: Arguments) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


@contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """An address of the socket that fits the system's limit, valid inside the block."""
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
