"""Structured logs with etcd's field names, and the catalogue of named lines.

An operator greps for the texts of `Event`, so they are stable and each stands in `docs/logs.md`.
`open_logger` is called once, by the command line, and opens the outputs; the logger itself may be
used from any thread. A level that is off costs one call that returns at once.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import MutableMapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from kvshim.config import ConfigError, LogConfig, LogFormat, Url
from kvshim.lazy import without
from kvshim.logrotate import RotatingFile

with without("rich"):  # structlog would load it for tracebacks in colour: 4 MiB for lines in JSON
    import structlog
    from structlog.typing import Processor


class Event(StrEnum):
    """The named lines: `msg` in JSON. Where etcd has a line of the same meaning, its text is ours.

    Levels, fields and what to do about each: `docs/logs.md`.
    """

    STARTING = "starting kvshim"
    FLAG_NO_EFFECT = "flag has no effect"
    FLAG_RENAMED = "flag has a new name"
    SETTING_ADVICE = "setting needs attention"
    SETTINGS_IGNORED = "settings ignored because of the config file"
    VARIABLE_UNRECOGNIZED = "unrecognized environment variable"
    KEY_UNRECOGNIZED = "unrecognized key in the config file"
    CERTIFICATE_CREATED = "created cert file"
    LISTENING = "serving client traffic"
    METRICS_LISTENING = "serving metrics"
    READY = "ready to serve client requests"
    START_FAILED = "cannot start"

    SLOW_FSYNC = "slow fdatasync"
    SLOW_DISK = "slow disk"
    SLOW_APPLY = "apply request took too long"
    SLOW_REQUEST = "request took too long"
    WATCHER_BEHIND = "watcher fell behind"

    ALARM_RAISED = "alarm raised"
    ALARM_CLEARED = "alarm disarmed"
    LEADER_CHANGED = "leader changed"
    QUORUM_LOST = "quorum lost"
    QUORUM_BACK = "quorum is back"
    PEERS_LISTENING = "serving peers"
    PEERS_IN_THE_CLEAR = "members talk without encryption"
    PEER_CONNECTED = "connected to a member"
    PEER_LOST = "lost a member"
    PEER_UNREACHABLE = "cannot reach a member"
    PEER_REFUSED = "a connection between members was refused"
    PEER_CERTIFICATE_KEPT = "went on with the certificate for peers that was loaded before"
    SNAPSHOT_SENT = "sent a snapshot"
    SNAPSHOT_FAILED = "could not send a snapshot"
    SNAPSHOT_SENDING = "sending database snapshot to client"
    SNAPSHOT_SAVED = "successfully sent database snapshot to client"
    STALE_READS = "no leader: gets and lists are answered from this member alone, and may be old"
    STALE_READS_ENDED = "a leader is known: gets and lists are linearizable again"

    WAL_PINNED = "WAL pinned by an outside reader"
    WAL_RELEASED = "WAL no longer pinned"
    COMPACTION_FINISHED = "finished scheduled compaction"
    AUTO_COMPACTION_FAILED = "automatic compaction failed"
    LEASES_EXPIRED = "leases expired"

    ROLE_CHANGED = "gave a member another role"
    ROLE_NUMBERS_DIFFER = "the cluster wants other numbers of voters and standbys than the flags"
    FOLLOWING = "holds no data, so members that do serve its clients"
    JOIN_ADMITTED = "node joined"
    JOIN_REFUSED = "refused a joining node"
    CERTIFICATE_RENEWED = "renewed the member's certificate"
    CERTIFICATE_NOT_RENEWED = "cannot renew the member's certificate"

    LOGIN_REFUSED = "invalid authentication was requested"

    CONNECTION_REJECTED = "rejected connection on client endpoint"
    HANDLER_FAILED = "request handler failed"
    DAMAGE_FOUND = "stored data is damaged"
    MEMBERS_DIFFER = "members hold different data"
    RESYNC_STARTED = "replacing the store by the leader's"
    RESYNC_DONE = "replaced the store by the leader's"
    RESYNC_FAILED = "could not replace the store"
    STORAGE_FAILED = "storage failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Logger(Protocol):
    """What the rooms log through. Fields are values, never formatted into the text."""

    def debug(self, event: Event | str, **fields: object) -> object: ...
    def info(self, event: Event | str, **fields: object) -> object: ...
    def warn(self, event: Event | str, **fields: object) -> object: ...
    def error(self, event: Event | str, **fields: object) -> object: ...

    def bind(self, **fields: object) -> Logger:
        """A logger that adds `fields` to every line."""
        ...


class Output(Protocol):
    """Where finished lines go."""

    def write(self, line: bytes) -> None: ...


def open_logger(config: LogConfig) -> Logger:
    """The node's logger. ConfigError if one of the outputs cannot be opened."""
    outputs = _Outputs([_open(name, config) for name in config.outputs])
    chain: list[Processor] = [_shape, structlog.processors.format_exc_info]
    chain.append(_to_json if config.format is LogFormat.JSON else _console(config))
    return make_logger(outputs, chain, config.level)


def make_logger(output: Output, chain: list[Processor], level: int) -> Logger:
    """A logger over any output: `chain` ends in bytes, levels below `level` cost nothing."""
    wrapper = structlog.make_filtering_bound_logger(level)
    made = structlog.wrap_logger(_Lines(output), processors=chain, wrapper_class=wrapper)
    return cast(Logger, made.bind())


class _Lines:
    """structlog's last step: whatever the level, a finished line goes to the output."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def msg(self, line: bytes) -> None:
        self._output.write(line)

    debug = info = warning = error = critical = msg


class _Outputs:
    """Several outputs as one, one line at a time."""

    def __init__(self, outputs: list[Output]) -> None:
        self._outputs = outputs
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        with self._lock:
            for output in self._outputs:
                output.write(line)


class _Stream:
    """A standard stream or a plain file. Logging never stops the node: a lost stream is dropped."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, line: bytes) -> None:
        try:
            self._stream.write(line)
            self._stream.flush()
        except (OSError, ValueError):
            return


def _open(name: str, config: LogConfig) -> Output:
    if name == "stderr":
        return _Stream(sys.stderr.buffer)
    if name == "stdout":
        return _Stream(sys.stdout.buffer)
    try:
        if config.rotation is not None:
            return RotatingFile(Path(name), config.rotation)
        return _Stream(cast(BinaryIO, open(name, "ab")))
    except OSError as error:
        raise ConfigError(f"cannot open the log file {name}: {error.strerror}") from None


_LEVEL_NAMES = {"warning": "warn", "critical": "fatal"}


def _shape(_: object, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """etcd's order: level, ts, msg, then the fields in the order they were given."""
    shaped: dict[str, Any] = {
        "level": _LEVEL_NAMES.get(method, method),
        "ts": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "msg": str(fields.pop("event")),
    }
    for name, value in fields.items():
        shaped.setdefault(name, value)  # a field never hides one of the three
    return shaped


def _to_json(_: object, __: str, fields: MutableMapping[str, Any]) -> bytes:
    text = json.dumps(fields, default=_plain, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _plain(value: object) -> object:
    match value:
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case Url() | Path() | BaseException():
            return str(value)
        case set() | frozenset():
            return sorted(map(str, value))
        case _:
            return repr(value)


def _console(config: LogConfig) -> Processor:
    colored = config.outputs == ("stderr",) and sys.stderr.isatty()
    render = structlog.dev.ConsoleRenderer(colors=colored, event_key="msg", timestamp_key="ts")

    def to_console(logger: object, method: str, fields: MutableMapping[str, Any]) -> bytes:
        plain = {name: _console_value(value) for name, value in fields.items()}
        return f"{render(logger, method, plain)}\n".encode("utf-8", "backslashreplace")

    return to_console


def _console_value(value: object) -> object:
    return value if isinstance(value, str | int | float) else _plain_or_json(value)


def _plain_or_json(value: object) -> str:
    return json.dumps(value, default=_plain, ensure_ascii=False).strip('"')
