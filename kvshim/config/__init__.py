"""Flags, environment and config file, read as etcd reads them, into one frozen `Config`.

Other rooms import from here; how settings are read is nobody else's business.
"""

from kvshim.config.ciphers import OPENSSL_NAMES
from kvshim.config.errors import ConfigError, UsageError
from kvshim.config.load import HelpWanted, Loaded, Outcome, VersionWanted, load
from kvshim.config.model import (
    NO_QUOTA,
    AuthConfig,
    AutoCompaction,
    ClientTls,
    ClusterState,
    CompactionMode,
    Config,
    LogConfig,
    LogFormat,
    LogLevel,
    LogRotation,
    MetricsLevel,
    PeerTls,
    SignedTokenConfig,
    TlsVersion,
    TokenKind,
    TransportKind,
    WithoutQuorum,
)
from kvshim.config.settings import Notice, NoticeKind
from kvshim.config.url import Scheme, Url, parse_url

__all__ = [
    "NO_QUOTA",
    "OPENSSL_NAMES",
    "AuthConfig",
    "AutoCompaction",
    "ClientTls",
    "ClusterState",
    "CompactionMode",
    "Config",
    "ConfigError",
    "HelpWanted",
    "Loaded",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "LogRotation",
    "MetricsLevel",
    "Notice",
    "NoticeKind",
    "Outcome",
    "PeerTls",
    "Scheme",
    "SignedTokenConfig",
    "TlsVersion",
    "TokenKind",
    "TransportKind",
    "Url",
    "UsageError",
    "VersionWanted",
    "WithoutQuorum",
    "load",
    "parse_url",
]
