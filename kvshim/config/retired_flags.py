"""Flags that etcd 3.5 or 3.6 had and 3.7 has not, since older manifests still pass them.

Pure data. A retired flag either goes on under a new name, or is a feature gate now, or means
nothing here: it is accepted with one warning or refused like any other flag.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvshim.config.flag import Disposition, Flag, Kind, Section


@dataclass(frozen=True, slots=True)
class Retired:
    """A flag of the past. `now` is the flag, `gate` the feature gate that took its place."""

    flag: Flag
    now: str | None = None
    gate: str | None = None


def _renamed(name: str, kind: Kind, default: str = "") -> Retired:
    now = name.removeprefix("experimental-")
    row = Flag(
        Section.RETIRED, name, kind, default, Disposition.OBEYED, f"Now --{now}.",
        f"its name is --{now} now",
    )  # fmt: skip
    return Retired(row, now=now)


def _gated(name: str, gate: str, default: str = "false") -> Retired:
    row = Flag(
        Section.RETIRED, name, Kind.BOOL, default, Disposition.OBEYED,
        f"Now --feature-gates={gate}.", f"it is --feature-gates={gate}=<bool> now",
    )  # fmt: skip
    return Retired(row, gate=gate)


def _refused(name: str, kind: Kind, default: str, note: str) -> Retired:
    help_ = "Gone from etcd."
    return Retired(Flag(Section.RETIRED, name, kind, default, Disposition.REFUSED, help_, note))


def _accepted(name: str, kind: Kind, default: str, note: str) -> Retired:
    help_ = "Gone from etcd."
    return Retired(Flag(Section.RETIRED, name, kind, default, Disposition.ACCEPTED, help_, note))


_NO_V2 = "API version 2 does not exist here: remove the flag and use version 3"
_NO_PROXY = "kvshim is no proxy: remove the flag, and point clients at the node itself"
_NO_PROXY_TUNING = "there is no proxy that it could tune"

RETIRED: tuple[Retired, ...] = (
    _gated("experimental-initial-corrupt-check", "InitialCorruptCheck"),
    _gated("experimental-compact-hash-check-enabled", "CompactHashCheck"),
    _gated("experimental-enable-lease-checkpoint", "LeaseCheckpoint"),
    _gated("experimental-enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    _gated(
        "experimental-txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer", "true"
    ),
    _gated("experimental-stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    _gated("experimental-set-member-localaddr", "SetMemberLocalAddr"),
    _renamed("experimental-corrupt-check-time", Kind.DURATION, "0s"),
    _renamed("experimental-compact-hash-check-time", Kind.DURATION, "1m0s"),
    _renamed("experimental-compaction-batch-limit", Kind.INT, "0"),
    _renamed("experimental-compaction-sleep-interval", Kind.DURATION, "0s"),
    _renamed("experimental-watch-progress-notify-interval", Kind.DURATION, "0s"),
    _renamed("experimental-warning-apply-duration", Kind.DURATION, "100ms"),
    _renamed("experimental-warning-unary-request-duration", Kind.DURATION, "300ms"),
    _renamed("experimental-downgrade-check-time", Kind.DURATION, "5s"),
    _renamed("experimental-memory-mlock", Kind.BOOL, "false"),
    _renamed("experimental-bootstrap-defrag-threshold-megabytes", Kind.UINT, "0"),
    _renamed("experimental-max-learners", Kind.INT, "1"),
    _renamed("experimental-snapshot-catchup-entries", Kind.UINT64, "5000"),
    _renamed("experimental-peer-skip-client-san-verification", Kind.BOOL, "false"),
    _renamed("experimental-enable-distributed-tracing", Kind.BOOL, "false"),
    _renamed("experimental-distributed-tracing-address", Kind.STRING, "localhost:4317"),
    _renamed("experimental-distributed-tracing-service-name", Kind.STRING, "etcd"),
    _renamed("experimental-distributed-tracing-instance-id", Kind.STRING),
    _renamed("experimental-distributed-tracing-sampling-rate", Kind.INT, "0"),
    _refused("experimental-enable-v2v3", Kind.STRING, "", _NO_V2),
    _refused("enable-v2", Kind.BOOL, "false", _NO_V2),
    _refused(
        "discovery", Kind.STRING, "",
        "discovery services are not supported: describe this member by --initial-cluster",
    ),
    _refused(
        "discovery-proxy", Kind.STRING, "",
        "discovery services are not supported: describe this member by --initial-cluster",
    ),
    _refused("proxy", Kind.STRING, "off", _NO_PROXY),
    _accepted("proxy-failure-wait", Kind.UINT, "5000", _NO_PROXY_TUNING),
    _accepted("proxy-refresh-interval", Kind.UINT, "30000", _NO_PROXY_TUNING),
    _accepted("proxy-dial-timeout", Kind.UINT, "1000", _NO_PROXY_TUNING),
    _accepted("proxy-write-timeout", Kind.UINT, "5000", _NO_PROXY_TUNING),
    _accepted("proxy-read-timeout", Kind.UINT, "0", _NO_PROXY_TUNING),
)  # fmt: skip
