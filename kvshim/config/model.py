"""The node's configuration: what the flags came to, typed, checked and never changed again.

Frozen values only; any thread may read them. Times are seconds as floats (`_s`) or whole
milliseconds (`_ms`), sizes are bytes. `load` makes one from flags, environment or config file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path

from kvshim.config.role_numbers import RoleNumbers
from kvshim.config.url import Url

NO_QUOTA = -1
"""`Config.quota_backend_bytes` of a node without a quota."""


class ClusterState(Enum):
    NEW = "new"
    EXISTING = "existing"


class CompactionMode(Enum):
    PERIODIC = "periodic"
    REVISION = "revision"


class MetricsLevel(Enum):
    BASIC = "basic"
    EXTENSIVE = "extensive"


class WithoutQuorum(Enum):
    """What is served while there is no leader, beside serializable reads."""

    NOTHING = "nothing"
    STALE_READS = "stale-reads"


class TransportKind(Enum):
    GRPCIO = "grpcio"
    HTTP2 = "http2"


class TokenKind(Enum):
    """What a login gets: the values are those of `--auth-token`."""

    SIMPLE = "simple"
    JWT = "jwt"
    NONE = ""
    """Nobody can log in: users are known by certificate."""


class TlsVersion(Enum):
    TLS12 = "TLS1.2"
    TLS13 = "TLS1.3"


class LogFormat(Enum):
    JSON = "json"
    CONSOLE = "console"


class LogLevel(IntEnum):
    """zap's levels on the numbers of Python's; panic and fatal differ in etcd only."""

    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40
    FATAL = 50


@dataclass(frozen=True, slots=True)
class AutoCompaction:
    """What automatic compaction keeps: `period_s` of history, or the last `revisions`."""

    mode: CompactionMode
    period_s: float
    revisions: int


@dataclass(frozen=True, slots=True)
class ClientTls:
    """TLS towards clients. Applies to https and unixs addresses alone."""

    cert_file: Path | None
    key_file: Path | None
    trusted_ca_file: Path | None
    client_cert_auth: bool
    crl_file: Path | None
    allowed_hostnames: tuple[str, ...]
    allowed_cns: tuple[str, ...]
    auto_tls: bool
    """Make a certificate under the data directory; only ever true without `cert_file`."""
    self_signed_validity_years: int
    cipher_suites: tuple[str, ...]
    """Go's (IANA) names, by preference; empty leaves the choice to the TLS library."""
    min_version: TlsVersion
    max_version: TlsVersion | None

    @property
    def available(self) -> bool:
        return self.cert_file is not None or self.auto_tls

    @property
    def demands_client_cert(self) -> bool:
        """As in etcd, naming a trusted CA is enough to demand client certificates."""
        return self.client_cert_auth or self.trusted_ca_file is not None


@dataclass(frozen=True, slots=True)
class PeerTls:
    """TLS between members. Applies to https addresses alone."""

    cert_file: Path | None
    key_file: Path | None
    client_cert_file: Path | None
    client_key_file: Path | None
    """Shown where this member dials; None is the pair that it serves with."""
    trusted_ca_file: Path | None
    client_cert_auth: bool
    crl_file: Path | None
    allowed_hostnames: tuple[str, ...]
    allowed_cns: tuple[str, ...]
    auto_tls: bool
    """Make a certificate under the data directory; only ever true without `cert_file`."""
    self_signed_validity_years: int
    cipher_suites: tuple[str, ...]
    min_version: TlsVersion
    max_version: TlsVersion | None

    @property
    def available(self) -> bool:
        return self.cert_file is not None or self.auto_tls


@dataclass(frozen=True, slots=True)
class SignedTokenConfig:
    """`--auth-token=jwt,...`: by which method and keys tokens are signed."""

    sign_method: str
    public_key_file: Path | None
    private_key_file: Path | None
    """For the HS methods, the secret."""
    ttl_seconds: float


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Passwords and tokens."""

    kind: TokenKind
    simple_ttl_s: float
    signed: SignedTokenConfig | None
    """Of `TokenKind.JWT` alone."""
    bcrypt_cost: int


@dataclass(frozen=True, slots=True)
class LogRotation:
    """When a log file is rotated. Zero means no limit for age and backups."""

    size_bytes_max: int
    age_days_max: int
    backups_max: int
    local_time: bool
    compress: bool


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: LogLevel
    format: LogFormat
    outputs: tuple[str, ...]
    """`stderr`, `stdout` or paths of files, without duplicates; `/dev/null` discards all."""
    rotation: LogRotation | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that is obeyed, under the names of etcd's flags."""

    name: str
    data_dir: Path
    listen_client_urls: tuple[Url, ...]
    listen_client_http_urls: tuple[Url, ...]
    """If not empty, HTTP is served here and no longer on `listen_client_urls`."""
    advertise_client_urls: tuple[Url, ...]
    listen_peer_urls: tuple[Url, ...]
    peer_urls_given: bool
    """A member alone hears others only where it was told to."""
    initial_advertise_peer_urls: tuple[Url, ...]
    listen_metrics_urls: tuple[Url, ...]
    """Beside the client addresses, which serve the same pages."""

    initial_cluster: tuple[tuple[str, tuple[Url, ...]], ...]
    initial_cluster_given: bool
    """Without it the node is alone, in a cluster of a random id."""
    initial_cluster_state: ClusterState
    initial_cluster_token: str
    heartbeat_ms: int
    election_ms: int
    election_given: bool
    """Not given, elections are quicker than etcd's, while leases and requests keep its times."""
    pre_vote: bool
    strict_reconfig_check: bool
    role_numbers: RoleNumbers
    role_numbers_given: bool
    """They are the cluster's; only those that a first node was given are said to it."""
    failure_domain: str
    replace_after_s: float
    snapshot_count: int

    quota_backend_bytes: int
    """Never 0: etcd's default is filled in, and no quota is `NO_QUOTA`."""
    max_request_bytes: int
    max_txn_ops: int
    auto_compaction: AutoCompaction | None
    wal_bytes_max: int
    scrub_interval_s: float
    corrupt_check_time_s: float
    """0: a time that costs little."""

    watch_progress_notify_interval_s: float
    warning_apply_duration_s: float
    warning_unary_request_duration_s: float

    read_only_without_quorum: WithoutQuorum
    transport: TransportKind
    max_concurrent_streams: int
    grpc_keepalive_min_time_s: float
    grpc_keepalive_interval_s: float
    grpc_keepalive_timeout_s: float
    """For the three: 0 switches it off."""
    socket_reuse_port: bool
    socket_reuse_address: bool
    client_tls: ClientTls
    peer_tls: PeerTls
    auth: AuthConfig
    enable_grpc_gateway: bool
    cors: tuple[str, ...]
    host_whitelist: tuple[str, ...]
    """For both: `*` among them allows all."""

    metrics: MetricsLevel
    log: LogConfig
    feature_gates: frozenset[str]
    """etcd's gates that are on."""
