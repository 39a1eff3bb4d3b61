"""What goes wrong while the command line, the environment or the config file is read.

Each carries one sentence for the operator; the CLI prints it and exits with `exit_code`, which is
etcd's: 2 for a command line that cannot be parsed, 1 for settings that contradict each other.
"""

from __future__ import annotations

from kvshim.errors import KvshimError


class ConfigError(KvshimError):
    """Settings that are readable but impossible, contradictory or refused."""

    exit_code = 1


class UsageError(ConfigError):
    """A command line that cannot be parsed: an unknown flag, a missing or malformed value."""

    exit_code = 2
