"""Every flag of etcd 3.7 in its sections Member and Clustering, in the order of etcd's help.

Pure data: names, kinds and defaults are etcd's, help and notes are ours. A conformance test
compares this table with the flag set of the real etcd.
"""

from __future__ import annotations

from kvshim.config.flag import Disposition, Flag, Kind, Section

_O, _A, _R = Disposition.OBEYED, Disposition.ACCEPTED, Disposition.REFUSED
_M, _C = Section.MEMBER, Section.CLUSTERING

_FIXED = "the time is fixed"
_ONE_STORE = "it tunes etcd's own storage engine, which kvshim does not have"
_NO_DISCOVERY = "discovery services are not supported: describe this member by --initial-cluster"

# fmt: off
MEMBER: tuple[Flag, ...] = (
    Flag(_M, "name", Kind.STRING, "default", _O, "Name of this member."),
    Flag(_M, "data-dir", Kind.STRING, "", _O, "Where the data lies; <name>.kvshim if empty."),
    Flag(
        _M, "wal-dir", Kind.STRING, "", _A, "Directory of etcd's write-ahead log.",
        "log and store lie together in --data-dir",
    ),
    Flag(
        _M, "snapshot-count", Kind.UINT64, "10000", _A, "Commits between two snapshots.",
        "the log is cut behind each finished checkpoint, not by a count of commits",
    ),
    Flag(
        _M, "heartbeat-interval", Kind.UINT, "100", _O,
        "Milliseconds between heartbeats of the leader.",
    ),
    Flag(
        _M, "election-timeout", Kind.UINT, "1000", _O,
        "Milliseconds without a leader before an election; not given, members wait 500 and"
        " request timeouts, leases and streams that require a leader go by 1000. A longer one gives"
        " connections between members more time, too.",
    ),
    Flag(
        _M, "initial-election-tick-advance", Kind.BOOL, "true", _A,
        "Shorten the wait for the first election.", _FIXED,
    ),
    Flag(
        _M, "listen-peer-urls", Kind.URLS, "http://localhost:2380", _O,
        "Addresses on which peers are heard.",
    ),
    Flag(
        _M, "listen-client-urls", Kind.URLS, "http://127.0.0.1:2379", _O,
        "Addresses on which clients are served.",
    ),
    Flag(
        _M, "listen-client-http-urls", Kind.URLS, "", _A,
        "Addresses for clients' HTTP alone; --listen-client-urls then serves gRPC alone.",
        "HTTP is served on --listen-client-urls, beside gRPC",
    ),
    Flag(
        _M, "max-snapshots", Kind.UINT, "5", _A, "Snapshot files to keep.",
        "kvshim keeps no snapshot files (etcd has deprecated this flag too)",
    ),
    Flag(
        _M, "max-wals", Kind.UINT, "5", _A, "Write-ahead log files to keep.",
        "the log is one file, cut behind each finished checkpoint",
    ),
    Flag(
        _M, "memory-mlock", Kind.BOOL, "false", _A, "Pin the pages of the store in memory.",
        "SQLite's pages are left to the page cache",
    ),
    Flag(
        _M, "quota-backend-bytes", Kind.INT64, "0", _O,
        "Largest size of the store; above it only reads and deletes. 0 is 2 GiB, below 0 is none.",
    ),
    Flag(
        _M, "backend-bbolt-freelist-type", Kind.STRING, "", _A,
        "Kind of etcd's free list: array or map.", _ONE_STORE,
    ),
    Flag(
        _M, "backend-batch-interval", Kind.DURATION, "0s", _A,
        "Longest time between commits of etcd's store.", _ONE_STORE,
    ),
    Flag(
        _M, "backend-batch-limit", Kind.INT, "0", _A,
        "Most operations between commits of etcd's store.", _ONE_STORE,
    ),
    Flag(_M, "max-txn-ops", Kind.UINT, "128", _O, "Most operations in one transaction."),
    Flag(_M, "max-request-bytes", Kind.UINT, "1572864", _O, "Largest request of a client."),
    Flag(
        _M, "max-concurrent-streams", Kind.UINT32, "4294967295", _O,
        "Most streams that one client connection has open at once; http2 keeps it to 10,000.",
    ),
    Flag(
        _M, "grpc-keepalive-min-time", Kind.DURATION, "5s", _O,
        "Shortest interval at which a client may ping.",
    ),
    Flag(
        _M, "grpc-keepalive-interval", Kind.DURATION, "2h0m0s", _O,
        "Idle time after which the server pings a client (0 is never).",
    ),
    Flag(
        _M, "grpc-keepalive-timeout", Kind.DURATION, "20s", _O,
        "Wait for the answer to a ping before the connection is closed (0 is never).",
    ),
    Flag(_M, "socket-reuse-port", Kind.BOOL, "false", _O, "Set SO_REUSEPORT on listening sockets."),
    Flag(
        _M, "socket-reuse-address", Kind.BOOL, "false", _O,
        "Set SO_REUSEADDR on listening sockets (set in any case, as Go does too).",
    ),
    Flag(
        _M, "enable-grpc-gateway", Kind.BOOL, "true", _O, "Serve the API as JSON over HTTP too.",
    ),
    Flag(
        _M, "raft-read-timeout", Kind.DURATION, "5s", _A, "Read timeout between peers.",
        _FIXED,
    ),
    Flag(
        _M, "raft-write-timeout", Kind.DURATION, "5s", _A, "Write timeout between peers.",
        _FIXED,
    ),
    Flag(
        _M, "feature-gates", Kind.GATES, "", _O,
        "etcd's feature gates, as Name=true,Other=false; see the documentation for each.",
    ),
    Flag(
        _M, "config-file", Kind.STRING, "", _O,
        "Read all settings from this YAML file, ignoring other flags and the environment.",
    ),
    Flag(_M, "version", Kind.BOOL, "false", _O, "Print the version and exit."),
)


def _discovery(name: str, kind: Kind, default: str, help_: str) -> Flag:
    return Flag(_C, name, kind, default, _R, help_, _NO_DISCOVERY)


CLUSTERING: tuple[Flag, ...] = (
    Flag(
        _C, "initial-advertise-peer-urls", Kind.URLS, "http://localhost:2380", _O,
        "Peer addresses of this member, as the member list shows them.",
    ),
    Flag(
        _C, "initial-cluster", Kind.STRING, "default=http://localhost:2380", _O,
        "The members of a new cluster, as name=url; equal on each of them.",
    ),
    Flag(
        _C, "initial-cluster-state", Kind.CHOICE, "new", _O,
        "'new' to begin a cluster, 'existing' to join one; without meaning once data is there.",
        choices=("new", "existing"),
    ),
    Flag(
        _C, "initial-cluster-token", Kind.STRING, "etcd-cluster", _O,
        "Goes into the ids of a new cluster, to tell clusters apart.",
    ),
    Flag(
        _C, "advertise-client-urls", Kind.URLS, "http://127.0.0.1:2379", _O,
        "Client addresses of this member, as the member list shows them.",
    ),
    _discovery("discovery-token", Kind.STRING, "", "Token of a discovery service."),
    _discovery("discovery-endpoints", Kind.STRINGS, "", "Endpoints of a discovery service."),
    _discovery("discovery-dial-timeout", Kind.DURATION, "2s", "Discovery: time to connect."),
    _discovery("discovery-request-timeout", Kind.DURATION, "5s", "Discovery: time to answer."),
    _discovery("discovery-keepalive-time", Kind.DURATION, "2s", "Discovery: ping interval."),
    _discovery("discovery-keepalive-timeout", Kind.DURATION, "6s", "Discovery: ping timeout."),
    _discovery("discovery-insecure-transport", Kind.BOOL, "true", "Discovery: speak plain."),
    _discovery(
        "discovery-insecure-skip-tls-verify", Kind.BOOL, "false",
        "Discovery: trust any certificate.",
    ),
    _discovery("discovery-cert", Kind.STRING, "", "Discovery: client certificate."),
    _discovery("discovery-key", Kind.STRING, "", "Discovery: client key."),
    _discovery("discovery-cacert", Kind.STRING, "", "Discovery: trusted CA."),
    _discovery("discovery-user", Kind.STRING, "", "Discovery: user name."),
    _discovery("discovery-password", Kind.STRING, "", "Discovery: password."),
    Flag(
        _C, "discovery-fallback", Kind.CHOICE, "exit", _R, "What to do if discovery fails.",
        _NO_DISCOVERY, ("exit", "proxy"),
    ),
    _discovery("discovery-srv", Kind.STRING, "", "DNS domain whose SRV records name members."),
    _discovery("discovery-srv-name", Kind.STRING, "", "Suffix of the SRV service's name."),
    Flag(
        _C, "strict-reconfig-check", Kind.BOOL, "true", _O,
        "Reject changes of membership that would lose the quorum.",
    ),
    Flag(
        _C, "pre-vote", Kind.BOOL, "true", _A, "Ask before an election whether it can be won.",
        "it is always asked",
    ),
    Flag(
        _C, "auto-compaction-retention", Kind.STRING, "0", _O,
        "History that automatic compaction keeps: hours or a duration, or revisions; 0 is off.",
    ),
    Flag(
        _C, "auto-compaction-mode", Kind.STRING, "periodic", _O,
        "How the retention is read: 'periodic' is a time, 'revision' a count of revisions.",
    ),
    Flag(
        _C, "v2-deprecation", Kind.CHOICE, "", _A, "Stage of the removal of API version 2.",
        "there is no API version 2 here (etcd ignores this flag too)",
        ("not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"),
    ),
)
