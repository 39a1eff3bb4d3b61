"""Metrics of gRPC calls, named as etcd's and go-grpc-middleware's are.

Independent of any RPC library, so both transports count alike. The label sets of a method are
resolved once, when the transport is built; a call then costs a handful of increments.
"""

from __future__ import annotations

from enum import Enum

from prometheus_client import CollectorRegistry, Histogram

from kvshim.config import MetricsLevel
from kvshim.errors import Code
from kvshim.metrics.tally import Tally, TallyFamily

HANDLING_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

CODE_LABELS = {
    code: "OK"
    if code is Code.OK
    else "Canceled"
    if code is Code.CANCELLED
    else code.name.title().replace("_", "")
    for code in Code
}
"""Status codes as Go spells them."""

CLIENT_VERSIONS_MAX = 64
CLIENT_VERSION_LENGTH_MAX = 32
"""Clients choose this label, so its length and the number of its values are bounded."""

_METHOD_LABELS = ["grpc_type", "grpc_service", "grpc_method"]


class CallKind(Enum):
    """Each has its name in `grpc_type` and the coarser one in etcd's own metric."""

    UNARY = ("unary", "unary")
    SERVER_STREAM = ("server_stream", "stream")
    BIDI_STREAM = ("bidi_stream", "stream")

    @property
    def grpc_type(self) -> str:
        return self.value[0]

    @property
    def etcd_type(self) -> str:
        return self.value[1]


class MethodMetrics:
    """The counters of one method. Event loop only."""

    __slots__ = (
        "_calls",
        "_clients",
        "_handled",
        "_handling_seconds",
        "_kind",
        "_labels",
        "_received_messages",
        "_sent_messages",
        "_started",
    )

    def __init__(self, calls: CallMetrics, kind: CallKind, service: str, method: str) -> None:
        self._calls = calls
        self._kind = kind
        self._clients = calls.clients[kind]
        self._labels = (kind.grpc_type, service, method)
        self._started = calls.started.labels(*self._labels)
        self._received_messages = calls.received_messages.labels(*self._labels)
        self._sent_messages = calls.sent_messages.labels(*self._labels)
        self._handled = {Code.OK: calls.handled.labels(*self._labels, CODE_LABELS[Code.OK])}
        self._handling_seconds = (
            calls.handling_seconds.labels(*self._labels) if calls.handling_seconds else None
        )

    def call_started(self, client_api_version: str | None) -> None:
        """A call of this method began; `client_api_version` is what its metadata say, if at all."""
        self._started.total += 1
        client = self._clients.get(client_api_version)
        if client is None:
            client = self._calls.client(self._kind, client_api_version)
        client.total += 1

    def message_received(self, size_bytes: int) -> None:
        self._received_messages.total += 1
        self._calls.received_bytes.total += size_bytes

    def message_sent(self, size_bytes: int) -> None:
        self._sent_messages.total += 1
        self._calls.sent_bytes.total += size_bytes

    def call_ended(self, code: Code, seconds: float) -> None:
        handled = self._handled.get(code)
        if handled is None:
            handled = self._calls.handled.labels(*self._labels, CODE_LABELS[code])
            self._handled[code] = handled
        handled.total += 1
        if self._handling_seconds is not None:
            self._handling_seconds.observe(seconds)


class CallMetrics:
    """All counters of calls; `method()` gives those of one method."""

    def __init__(self, registry: CollectorRegistry, level: MetricsLevel) -> None:
        self.started = TallyFamily(
            "grpc_server_started_total", "Calls begun.", _METHOD_LABELS, registry=registry
        )
        self.handled = TallyFamily(
            "grpc_server_handled_total",
            "Calls ended, by status code.",
            [*_METHOD_LABELS, "grpc_code"],
            registry=registry,
        )
        self.received_messages = TallyFamily(
            "grpc_server_msg_received_total",
            "Request messages received.",
            _METHOD_LABELS,
            registry=registry,
        )
        self.sent_messages = TallyFamily(
            "grpc_server_msg_sent_total",
            "Response messages sent.",
            _METHOD_LABELS,
            registry=registry,
        )
        self.received_bytes = TallyFamily(
            "etcd_network_client_grpc_received_bytes_total",
            "Bytes of request messages received from clients.",
            registry=registry,
        ).labels()
        self.sent_bytes = TallyFamily(
            "etcd_network_client_grpc_sent_bytes_total",
            "Bytes of response messages sent to clients.",
            registry=registry,
        ).labels()
        self.client_requests = TallyFamily(
            "etcd_server_client_requests_total",
            "Calls by kind and by the API version the client claims.",
            ["type", "client_api_version"],
            registry=registry,
        )
        self.handling_seconds: Histogram | None = None
        if level is MetricsLevel.EXTENSIVE:
            self.handling_seconds = Histogram(
                "grpc_server_handling_seconds",
                "Time from the begin of a call to its end.",
                _METHOD_LABELS,
                buckets=HANDLING_SECONDS,
                registry=registry,
            )
        self.clients: dict[CallKind, dict[str | None, Tally]] = {kind: {} for kind in CallKind}
        """By the API version that a client claims; only `client` adds to it."""

    def method(self, kind: CallKind, path: str) -> MethodMetrics:
        """The counters of the method at an HTTP/2 path such as `/etcdserverpb.KV/Range`."""
        service, _, name = path.removeprefix("/").rpartition("/")
        return MethodMetrics(self, kind, service, name)

    def client(self, kind: CallKind, version: str | None) -> Tally:
        """The counter of calls under the version that their client claims."""
        if version is not None and len(version) > CLIENT_VERSION_LENGTH_MAX:
            return self.client_requests.labels(kind.etcd_type, "other")
        if sum(map(len, self.clients.values())) >= CLIENT_VERSIONS_MAX:
            return self.client_requests.labels(kind.etcd_type, "other")
        counter = self.client_requests.labels(kind.etcd_type, version or "unknown")
        self.clients[kind][version] = counter
        return counter
