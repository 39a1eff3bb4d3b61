"""Every flag of etcd 3.7 in its sections from Security to Unsafe, in the order of etcd's help.

Pure data: names, kinds and defaults are etcd's, help and notes are ours. A conformance test
compares this table with the flag set of the real etcd.
"""

from __future__ import annotations

from kvshim.config.flag import Disposition, Flag, Kind, Section

_O, _A, _R = Disposition.OBEYED, Disposition.ACCEPTED, Disposition.REFUSED
_S, _L, _T, _F, _U = (
    Section.SECURITY, Section.LOGGING, Section.TRACING, Section.FEATURES, Section.UNSAFE
)  # fmt: skip

_ALWAYS_COMPARED = "what compactions hash is compared every few seconds, and costs nothing"
_FIXED = "the bound is fixed for now"
_NO_DOWNGRADE = "there are no downgrades yet"
_NO_TRACING = "traces are not exported yet"
_OWN_PACE = "compaction works in slices that it paces by itself"

DEFAULT_ROTATION = (
    '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}'
)

# fmt: off
SECURITY: tuple[Flag, ...] = (
    Flag(_S, "cert-file", Kind.STRING, "", _O, "Certificate shown to clients."),
    Flag(_S, "key-file", Kind.STRING, "", _O, "Key of --cert-file."),
    Flag(
        _S, "client-cert-auth", Kind.BOOL, "false", _O,
        "Demand a certificate of clients, signed by --trusted-ca-file.",
    ),
    Flag(
        _S, "client-cert-file", Kind.STRING, "", _A,
        "Certificate etcd's JSON gateway shows to its own server.",
        "kvshim never connects to itself",
    ),
    Flag(
        _S, "client-key-file", Kind.STRING, "", _A, "Key of --client-cert-file.",
        "kvshim never connects to itself",
    ),
    Flag(_S, "client-crl-file", Kind.STRING, "", _O, "List of revoked client certificates."),
    Flag(
        _S, "client-cert-allowed-hostname", Kind.STRINGS, "", _O,
        "Host names, one of which a client's certificate must carry.",
    ),
    Flag(
        _S, "trusted-ca-file", Kind.STRING, "", _O,
        "CA that signs clients' certificates; giving it demands them.",
    ),
    Flag(
        _S, "auto-tls", Kind.BOOL, "false", _O,
        "Serve clients with a certificate made at the first start.",
    ),
    Flag(_S, "peer-cert-file", Kind.STRING, "", _O, "Certificate shown to peers."),
    Flag(_S, "peer-key-file", Kind.STRING, "", _O, "Key of --peer-cert-file."),
    Flag(
        _S, "peer-client-cert-auth", Kind.BOOL, "false", _O, "Demand a certificate of peers.",
    ),
    Flag(
        _S, "peer-client-cert-file", Kind.STRING, "", _O,
        "Certificate for connections to peers, if not --peer-cert-file.",
    ),
    Flag(
        _S, "peer-client-key-file", Kind.STRING, "", _O, "Key of --peer-client-cert-file.",
    ),
    Flag(
        _S, "peer-trusted-ca-file", Kind.STRING, "", _O, "CA that signs peers' certificates.",
    ),
    Flag(
        _S, "peer-cert-allowed-cn", Kind.STRINGS, "", _O,
        "Common names, one of which a peer's certificate must carry.",
    ),
    Flag(
        _S, "peer-cert-allowed-hostname", Kind.STRINGS, "", _O,
        "Host names, one of which a peer's certificate must carry.",
    ),
    Flag(
        _S, "peer-auto-tls", Kind.BOOL, "false", _O,
        "Serve peers with a certificate made at the first start.",
    ),
    Flag(
        _S, "self-signed-cert-validity", Kind.UINT, "1", _O,
        "Years that a certificate of --auto-tls is valid.",
    ),
    Flag(
        _S, "peer-crl-file", Kind.STRING, "", _O, "List of revoked peer certificates.",
    ),
    Flag(
        _S, "peer-skip-client-san-verification", Kind.BOOL, "false", _A,
        "Do not check the names in peers' client certificates.",
        "names of dialling peers are not compared with their addresses",
    ),
    Flag(
        _S, "cipher-suites", Kind.STRINGS, "", _O,
        "TLS 1.2 cipher suites, by Go's names, in order of preference.",
    ),
    Flag(
        _S, "cors", Kind.ORIGINS, "*", _O,
        "Origins that may use clients' HTTP from a browser; * is all.",
    ),
    Flag(
        _S, "host-whitelist", Kind.STRINGS, "*", _O,
        "Host names that clients' plain HTTP requests may carry; * is all.",
    ),
    Flag(_S, "tls-min-version", Kind.STRING, "TLS1.2", _O, "Lowest version: TLS1.2 or TLS1.3."),
    Flag(_S, "tls-max-version", Kind.STRING, "", _O, "Highest version; empty is the newest."),
)

AUTH: tuple[Flag, ...] = (
    Flag(
        Section.AUTH, "auth-token", Kind.STRING, "simple", _O,
        "'simple', or 'jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=5m'.",
    ),
    Flag(
        Section.AUTH, "bcrypt-cost", Kind.UINT, "10", _O,
        "Cost of a password hash, 4 to 31: one more takes twice the time.",
    ),
    Flag(
        Section.AUTH, "auth-token-ttl", Kind.UINT, "300", _O,
        "Seconds a simple token lives on after each use.",
    ),
)

MONITORING: tuple[Flag, ...] = (
    Flag(
        Section.MONITORING, "enable-pprof", Kind.BOOL, "false", _A,
        "Serve profiles of the Go runtime.", "there is no Go runtime to profile",
    ),
    Flag(
        Section.MONITORING, "metrics", Kind.STRING, "basic", _O,
        "'extensive' adds histograms of gRPC calls.",
    ),
    Flag(
        Section.MONITORING, "listen-metrics-urls", Kind.URLS, "", _O,
        "More addresses for /metrics, /health, /livez, /readyz and /version.",
    ),
)

LOGGING: tuple[Flag, ...] = (
    Flag(_L, "logger", Kind.STRING, "zap", _O, "Must be 'zap'; logs have its field names."),
    Flag(
        _L, "log-outputs", Kind.STRINGS, "default", _O,
        "Where logs go: stderr, stdout, default (stderr) or paths of files.",
    ),
    Flag(
        _L, "log-level", Kind.STRING, "info", _O,
        "Lowest level logged: debug, info, warn, error, panic or fatal.",
    ),
    Flag(_L, "log-format", Kind.STRING, "json", _O, "'json' or 'console'."),
    Flag(
        _L, "enable-log-rotation", Kind.BOOL, "false", _O,
        "Rotate the one file that --log-outputs names.",
    ),
    Flag(
        _L, "log-rotation-config-json", Kind.STRING, DEFAULT_ROTATION, _O,
        "When to rotate: maxsize (MB), maxage (days), maxbackups, localtime, compress.",
    ),
    Flag(
        _L, "warning-unary-request-duration", Kind.DURATION, "300ms", _O,
        "A request that takes longer is logged.",
    ),
)

TRACING: tuple[Flag, ...] = (
    Flag(_T, "enable-distributed-tracing", Kind.BOOL, "false", _A, "Export traces.", _NO_TRACING),
    Flag(
        _T, "distributed-tracing-address", Kind.STRING, "localhost:4317", _A,
        "Collector of traces.", _NO_TRACING,
    ),
    Flag(
        _T, "distributed-tracing-service-name", Kind.STRING, "etcd", _A,
        "Name of the service in traces.", _NO_TRACING,
    ),
    Flag(
        _T, "distributed-tracing-instance-id", Kind.STRING, "", _A, "Name of the member in traces.",
        _NO_TRACING,
    ),
    Flag(
        _T, "distributed-tracing-sampling-rate", Kind.INT, "0", _A, "Spans sampled of a million.",
        _NO_TRACING,
    ),
)

FEATURES: tuple[Flag, ...] = (
    Flag(
        _F, "corrupt-check-time", Kind.DURATION, "0s", _O,
        "Time between comparisons of all that members hold; 0 is 10m, more for a large store.",
    ),
    Flag(
        _F, "compact-hash-check-time", Kind.DURATION, "1m0s", _A,
        "Time between comparisons of members' compaction hashes.", _ALWAYS_COMPARED,
    ),
    Flag(
        _F, "compaction-batch-limit", Kind.INT, "0", _A,
        "Revisions deleted in one slice of a compaction.", _OWN_PACE,
    ),
    Flag(
        _F, "compaction-sleep-interval", Kind.DURATION, "0s", _A,
        "Pause between slices of a compaction.", _OWN_PACE,
    ),
    Flag(
        _F, "watch-progress-notify-interval", Kind.DURATION, "0s", _O,
        "Interval of progress responses to idle watches; 0 is 10m.",
    ),
    Flag(
        _F, "warning-apply-duration", Kind.DURATION, "100ms", _O,
        "A command or read that takes longer is logged.",
    ),
    Flag(
        _F, "bootstrap-defrag-threshold-megabytes", Kind.UINT, "0", _A,
        "Defragment at start if that frees so much.", "there is nothing to defragment",
    ),
    Flag(_F, "max-learners", Kind.INT, "1", _A, "Most learners in the cluster.", _FIXED),
    Flag(
        _F, "downgrade-check-time", Kind.DURATION, "5s", _A,
        "Time between checks for a downgrade of the cluster.", _NO_DOWNGRADE,
    ),
    Flag(
        _F, "snapshot-catchup-entries", Kind.UINT64, "5000", _A,
        "Log entries kept for slow followers.", _FIXED,
    ),
)

UNSAFE: tuple[Flag, ...] = (
    Flag(
        _U, "force-new-cluster", Kind.BOOL, "false", _R,
        "Make this member a cluster of its own, losing the others.",
        "a cluster has one member for now, so there is nothing to force: start without it",
    ),
    Flag(
        _U, "unsafe-no-fsync", Kind.BOOL, "false", _A, "Answer before data is on the disk.",
        "kvshim never answers before the log is on the disk",
    ),
)

_NO_LONGER = "it has done nothing since etcd 2 (etcd ignores it too)"

IGNORED: tuple[Flag, ...] = tuple(
    Flag(Section.RETIRED, name, Kind.IGNORED, "", _A, "Left from etcd 0.4.", _NO_LONGER)
    for name in (
        "cluster-active-size",
        "cluster-remove-delay",
        "cluster-sync-interval",
        "config",
        "force",
        "max-result-buffer",
        "max-retry-attempts",
        "peer-heartbeat-interval",
        "peer-election-timeout",
        "retry-interval",
        "snapshot",
        "v",
        "vv",
        "test.coverprofile",
        "test.outputdir",
    )
)
