"""A small client of the Kubernetes API, for what kubectl cannot show: timing, pages, raw events.

One connection, JSON only, no retries: the story must see every failure. Not for sharing between
threads; the watch recorder at the end runs a thread and a connection of its own.
"""

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

Object = dict[str, Any]

REQUEST_SECONDS_MAX = 30.0
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ApiError(Exception):
    """An answer outside 2xx; `status` is the Status object of the body, if there was one."""

    def __init__(self, code: int, body: bytes) -> None:
        try:
            self.status: Object = json.loads(body)
        except ValueError:
            self.status = {"message": body.decode(errors="replace")}
        self.code = code
        super().__init__(f"{code} {self.reason}: {self.status.get('message')}")

    @property
    def reason(self) -> str:
        return str(self.status.get("reason", ""))


@dataclass(slots=True)
class ApiClient:
    """Calls as the holder of one client certificate."""

    port: int
    ca_cert: Path
    cert: Path
    key: Path
    timeout_seconds: float = REQUEST_SECONDS_MAX
    _connection: http.client.HTTPSConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def get(self, path: str, **query: object) -> Object:
        """An object or a list."""
        return self.call("GET", path, query=query)

    def create(self, path: str, obj: Object) -> Object:
        """POST to a collection."""
        return self.call("POST", path, body=obj)

    def replace(self, path: str, obj: Object) -> Object:
        """PUT; the object's resourceVersion makes it conditional."""
        return self.call("PUT", path, body=obj)

    def patch(self, path: str, obj: Object, content_type: str, **query: object) -> Object:
        """PATCH of the kind that the content type names."""
        return self.call("PATCH", path, body=obj, content_type=content_type, query=query)

    def delete(self, path: str, **query: object) -> Object:
        """DELETE of an object or, given a collection's path, of all in it."""
        return self.call("DELETE", path, query=query)

    def get_text(self, path: str) -> str:
        """A page that is not JSON."""
        return self._exchange("GET", path, None, {}).decode()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Object | None = None,
        content_type: str = "application/json",
        query: dict[str, object] | None = None,
    ) -> Object:
        """One request; raises ApiError on refusal and OSError if the connection fails."""
        target = path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        data = None if body is None else json.dumps(body).encode()
        answer: Object = json.loads(self._exchange(method, target, data, headers))
        return answer

    def stream(self, path: str, **query: object) -> http.client.HTTPResponse:
        """An open GET, to be read line by line; takes the connection for itself."""
        connection = self._connect()
        connection.request("GET", f"{path}?{urlencode(query)}")
        response = connection.getresponse()
        if response.status >= 300:
            raise ApiError(response.status, response.read())
        return response

    def interrupt(self) -> None:
        """Ends what another thread reads here; the one method that is safe to call from outside."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Drops the connection; the next call makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(
        self, method: str, target: str, data: bytes | None, headers: dict[str, str]
    ) -> bytes:
        connection = self._connect()
        try:
            connection.request(method, target, data, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as failure:
            self.close()
            if isinstance(failure, OSError):
                raise
            raise ConnectionError(repr(failure)) from failure
        if response.status >= 300:
            raise ApiError(response.status, answer)
        return answer

    def _connect(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            context = ssl.create_default_context(cafile=str(self.ca_cert))
            context.load_cert_chain(self.cert, self.key)
            self._connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=self.timeout_seconds, context=context
            )
        return self._connection


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch."""

    kind: str
    object: Object

    @property
    def name(self) -> str:
        return str(self.object.get("metadata", {}).get("name", ""))

    @property
    def resource_version(self) -> int:
        return int(self.object["metadata"]["resourceVersion"])


@dataclass(slots=True)
class WatchRecorder:
    """Watches one collection on a thread of its own, for as long as the `with` block lasts."""

    client: ApiClient
    path: str
    query: dict[str, object]
    events: list[WatchEvent] = field(default_factory=list)
    ended: str = ""
    _thread: threading.Thread | None = None
    _closing: threading.Event = field(default_factory=threading.Event)
    _opened: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name=f"watch {self.path}", daemon=True)
        self._thread.start()
        if not self._opened.wait(REQUEST_SECONDS_MAX):
            raise TimeoutError(f"watch of {self.path} did not open")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self.client.interrupt()
        if self._thread is not None:
            self._thread.join(REQUEST_SECONDS_MAX)

    def wait_for(self, done: Callable[[list[WatchEvent]], bool], timeout_seconds: float) -> bool:
        """Whether the events so far satisfied `done` before the time was over."""
        return wait_until(lambda: done(self.events), timeout_seconds)

    def _run(self) -> None:
        try:
            response = self.client.stream(self.path, watch="true", **self.query)
            self._opened.set()
            for line in response:
                event = json.loads(line)
                self.events.append(WatchEvent(event["type"], event["object"]))
            self.ended = "closed by the server"
        except (
            OSError,
            ValueError,
            AttributeError,
            http.client.HTTPException,
            ApiError,
        ) as failure:
            # Cutting the connection under the reader is how the watch is ended from outside.
            self.ended = "" if self._closing.is_set() else repr(failure)
        finally:
            self.client.close()
            self._opened.set()


def wait_until(done: Callable[[], bool], timeout_seconds: float, every: float = 0.05) -> bool:
    """Polls until `done()` or the time is over; tells which."""
    deadline = time.monotonic() + timeout_seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
