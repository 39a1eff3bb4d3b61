"""Entry of the `kvshim` command: `kvshim [etcd flags]` starts a node, as `etcd` does.

A first argument that is no flag names a command; each lives in a file of its own and is imported
when it is called, so that starting a node loads nothing it does not need.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import NoReturn, cast

from kvshim.errors import KvshimError

Command = Callable[[Sequence[str]], int]

_COMMANDS: Mapping[str, str] = {
    "version": "kvshim.cli.version:run",
    "help": "kvshim.cli.help:run",
    "add-node": "kvshim.cli.add_node:run",
    "join": "kvshim.cli.join:run",
    "certs": "kvshim.cli.certs:run",
    "status": "kvshim.cli.status:run",
    "roles": "kvshim.cli.roles:run",
    "remove-node": "kvshim.cli.remove_node:run",
    "recover": "kvshim.cli.recover:run",
    "repair": "kvshim.cli.repair:run",
    "import": "kvshim.cli.import_data:run",
    "export": "kvshim.cli.export_data:run",
}
"""Commands by name, as module and function. The function gets the arguments after the name."""

_NOT_OURS: Mapping[str, str] = {
    "gateway": "kvshim is no TCP gateway: point clients at the node itself",
    "grpc-proxy": "kvshim is no gRPC proxy: point clients at the node itself",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Expected errors are one sentence on stderr."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if argv is None:  # as a program, not called by a test
        os.umask(0o077)  # whatever it writes holds secrets of the cluster
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except KvshimError as error:
        print(f"kvshim: {error}", file=sys.stderr)
        return cast(int, getattr(error, "exit_code", 1))
    except RuntimeError as error:
        if isinstance(error.__cause__, SystemExit):  # Python 3.11: what `__set_name__` raised
            return cast(int, error.__cause__.code)
        raise
    except BrokenPipeError:  # the reader of our output left, as `kvshim --help | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _leave(_number: int, _frame: object) -> NoReturn:
    """Told to stop before the node has handlers of its own: nothing was promised to anybody yet."""
    sys.exit(0)


def _dispatch(arguments: Sequence[str]) -> int:
    first = arguments[0] if arguments else ""
    if first in _NOT_OURS:
        print(f"kvshim: {first}: {_NOT_OURS[first]}", file=sys.stderr)
        return 1
    if first in _COMMANDS:
        return _load(_COMMANDS[first])(arguments[1:])
    return _load("kvshim.cli.start:run")(arguments)


def _load(place: str) -> Command:
    module, _, function = place.partition(":")
    return cast(Command, getattr(import_module(module), function))


if __name__ == "__main__":
    sys.exit(main())
