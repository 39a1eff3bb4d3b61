"""An informer as controllers have it: a list, then a watch that goes on where the last one ended.

Each owns one thread and its connections. It notes what a story must not see: a list made again, an
event that came twice or out of order.
"""

import http.client
import json
import threading
import time
from dataclasses import dataclass, field

from conformance.kubernetes.apiserver import ApiServer
from conformance.kubernetes.client import ApiClient, ApiError

RETRY_SECONDS = 0.2
JOIN_SECONDS_MAX = 30.0


@dataclass(slots=True)
class Informer:
    """The cache of one collection, for as long as the `with` block lasts."""

    apiserver: ApiServer
    path: str
    cache: dict[str, int] = field(default_factory=dict)
    """Name to resource version."""
    relists: int = 0
    """Lists after the first one."""
    watches: int = 0
    events: int = 0
    removed_at: dict[str, float] = field(default_factory=dict)
    """When the DELETED of a name came, by the monotonic clock."""
    disorder: list[str] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    """Why each list or watch ended."""
    _version: int = 0
    _client: ApiClient | None = None
    _listed: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Informer":
        self._thread = threading.Thread(target=self._run, name=f"informer {self.path}", daemon=True)
        self._thread.start()
        if not self._listed.wait(JOIN_SECONDS_MAX):
            raise TimeoutError(f"no list of {self.path}: {self.endings}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._client is not None:
            self._client.interrupt()
        assert self._thread is not None
        self._thread.join(JOIN_SECONDS_MAX)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self.apiserver.client() as self._client:
                    if not self._version:
                        self._list(self._client)
                    self._watch(self._client)
            except (OSError, ValueError, AttributeError, http.client.HTTPException) as failure:
                self.endings.append(repr(failure))
            except ApiError as failure:
                self._told(failure.code, str(failure))
            self._stopping.wait(RETRY_SECONDS)

    def _list(self, client: ApiClient) -> None:
        listed = client.get(self.path)
        self.cache = {
            item["metadata"]["name"]: int(item["metadata"]["resourceVersion"])
            for item in listed["items"]
        }
        self._version = int(listed["metadata"]["resourceVersion"])
        if self._listed.is_set():
            self.relists += 1
        self._listed.set()

    def _watch(self, client: ApiClient) -> None:
        response = client.stream(
            self.path, watch="true", allowWatchBookmarks="true", resourceVersion=self._version
        )
        self.watches += 1
        for line in response:
            event = json.loads(line)
            if event["type"] == "ERROR":
                self._told(int(event["object"]["code"]), str(event["object"].get("message")))
                return
            self._take(event["type"], event["object"]["metadata"])
        self.endings.append("closed by the server")

    def _take(self, kind: str, metadata: dict[str, str]) -> None:
        version, name = int(metadata["resourceVersion"]), metadata.get("name", "")
        late = version < self._version if kind == "BOOKMARK" else version <= self._version
        if late:
            self.disorder.append(f"{kind} {name} at {version} behind {self._version}")
        self._version = version
        if kind == "BOOKMARK":
            return
        self.events += 1
        if (kind == "ADDED") is (name in self.cache):
            self.disorder.append(f"{kind} {name} at {version}, which is {self.cache.get(name)}")
        if kind == "DELETED":
            self.cache.pop(name, None)
            self.removed_at[name] = time.monotonic()
        else:
            self.cache[name] = version

    def _told(self, code: int, message: str) -> None:
        self.endings.append(f"{code} {message}")
        if code == http.HTTPStatus.GONE:
            self._version = 0
