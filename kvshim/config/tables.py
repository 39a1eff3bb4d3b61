"""All flag tables joined, and the look-ups over them: by name, and the nearest known name.

Pure data, built once at import; nothing registers itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from kvshim.config.etcd_other_flags import (
    AUTH,
    FEATURES,
    IGNORED,
    LOGGING,
    MONITORING,
    SECURITY,
    TRACING,
    UNSAFE,
)
from kvshim.config.etcd_server_flags import CLUSTERING, MEMBER
from kvshim.config.extra_flags import EXTRAS
from kvshim.config.flag import Flag
from kvshim.config.retired_flags import RETIRED, Retired

ETCD_FLAGS: tuple[Flag, ...] = (
    *MEMBER,
    *CLUSTERING,
    *SECURITY,
    *AUTH,
    *MONITORING,
    *LOGGING,
    *TRACING,
    *FEATURES,
    *UNSAFE,
    *IGNORED,
)
"""Every flag of etcd 3.7."""

RETIRED_BY_NAME: Mapping[str, Retired] = {row.flag.name: row for row in RETIRED}

BY_NAME: Mapping[str, Flag] = {
    flag.name: flag for flag in (*ETCD_FLAGS, *(row.flag for row in RETIRED), *EXTRAS)
}
"""Every flag that the command line knows."""

EXTRA_NAMES = frozenset(flag.name for flag in EXTRAS)


def env_name(flag: Flag) -> str:
    """The environment variable of a flag, by etcd's rule; our own flags have our prefix."""
    prefix = "KVSHIM_" if flag.name in EXTRA_NAMES else "ETCD_"
    return prefix + flag.name.upper().replace("-", "_")


def nearest(name: str) -> str | None:
    """The known flag that a mistyped name most resembles, if any does."""
    names = [flag.name for flag in BY_NAME.values() if flag not in IGNORED]
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.6)), None)
