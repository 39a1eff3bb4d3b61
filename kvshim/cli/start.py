"""Starting a node: settings, then the logger, then `kvshim.node.run`.

Runs on the main thread before there is an event loop; `run_node` owns everything after that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import assert_never

from kvshim.cli.banner import banner
from kvshim.config import (
    Config,
    HelpWanted,
    Loaded,
    LogFormat,
    Notice,
    NoticeKind,
    TransportKind,
    VersionWanted,
    load,
)
from kvshim.errors import KvshimError, StorageError
from kvshim.logs import Event, open_logger
from kvshim.transport.grpcio_environment import prepare as prepare_grpc
from kvshim.version import KVSHIM_VERSION

_EVENTS = {
    NoticeKind.NO_EFFECT: Event.FLAG_NO_EFFECT,
    NoticeKind.RENAMED: Event.FLAG_RENAMED,
    NoticeKind.ADVICE: Event.SETTING_ADVICE,
    NoticeKind.IGNORED_FOR_FILE: Event.SETTINGS_IGNORED,
    NoticeKind.UNRECOGNIZED_VARIABLE: Event.VARIABLE_UNRECOGNIZED,
    NoticeKind.UNRECOGNIZED_KEY: Event.KEY_UNRECOGNIZED,
}


def run(arguments: Sequence[str]) -> int:
    """Start a node with etcd's flags and serve until it is stopped. Returns the exit code."""
    outcome = load(arguments, os.environ)
    match outcome:
        case HelpWanted():
            from kvshim.cli import help as help_

            return help_.run(())
        case VersionWanted():
            from kvshim.cli import version

            return version.run(())
        case Loaded(config, notices):
            return _start(config, notices)
        case _:
            assert_never(outcome)


def _start(config: Config, notices: Sequence[Notice]) -> int:
    log = open_logger(config.log)
    log.info(
        Event.STARTING,
        version=KVSHIM_VERSION,
        name=config.name,
        data_dir=config.data_dir.absolute(),
        pid=os.getpid(),
    )
    for notice in notices:
        log.warn(_EVENTS[notice.kind], name=notice.name, reason=notice.reason)
    if config.transport is TransportKind.GRPCIO:
        prepare_grpc(config.client_tls.cipher_suites)
    from kvshim.node.run import run_node  # only now: it may load grpc, which reads the environment

    try:
        return run_node(config, log, lambda: _greet(config))
    except KvshimError as error:
        if not isinstance(error, StorageError):  # that one was logged where it happened
            log.error(Event.START_FAILED, error=str(error))
        raise


def _greet(config: Config) -> None:
    """Tell a person what now runs where; a supervisor's log gets the named lines alone."""
    if sys.stderr.isatty() or config.log.format is LogFormat.CONSOLE:
        print(banner(config), file=sys.stderr, flush=True)
