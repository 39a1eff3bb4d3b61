"""`kvshim join <address>#<token>`: makes this machine a member of a cluster, then starts it.

The token is a secret, so it need not be an argument, which other users of the machine can read:
without it the command asks at a prompt, or reads stdin or `--token-file`. All other flags are those
of the node that is started.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import platform
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvshim.cli.admin_options import UsageError
from kvshim.config import Config, Loaded, load
from kvshim.config.url import Scheme, Url
from kvshim.pki.certificates import PkiError
from kvshim.pki.tokens import JoinToken
from kvshim.server.joining import Joined, Newcomer, join, strangers_calls, url_of

_USAGE = """\
Usage: kvshim join <host:port>[#<token>] [--token-file FILE] [--no-start] [flags]

Makes this machine a member of a cluster and starts it. `kvshim add-node`, run on a voter, prints
the line to use here. Without #<token> it is asked for at a prompt or read from stdin.
Running it again is harmless. The flags are those of the node; `kvshim help` lists them.
"""

_TOKEN_CHARACTERS_MAX = 512
_PEER_PORT = 2380


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the command line asks for."""

    address: str
    token: str
    token_file: str
    starts: bool
    flags: tuple[str, ...]


def run(arguments: Sequence[str]) -> int:
    """Join, then run the node until it is stopped. Returns the exit code."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(_USAGE, end="")
        return 0
    wish = _parse(arguments)
    loaded = load(wish.flags, os.environ)
    if not isinstance(loaded, Loaded):
        raise UsageError("say --help or --version without join")
    token = JoinToken.parse(_token_text(wish))
    config = loaded.config
    newcomer = _newcomer(config, wish.address)
    joined = _join(config.data_dir, wish.address, token, newcomer)
    if joined is None:
        print("This node has joined that cluster already.", file=sys.stderr)
        joined = Joined.load(config.data_dir)
    else:
        print(f"Joined as member {joined.member_id:x}.", file=sys.stderr)
    if not wish.starts:
        return 0
    from kvshim.cli import start

    return start.run([*wish.flags, *(_start_flags(config, joined) if joined else ())])


def _parse(arguments: Sequence[str]) -> _Wish:
    address, token_file, starts, flags = "", "", True, []
    rest = list(arguments)
    if rest and not rest[0].startswith("-"):
        address = rest.pop(0)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if name == "--token-file":
            if not equals and not rest:
                raise UsageError("--token-file needs a value")
            token_file = value if equals else rest.pop(0)
        elif argument == "--no-start":
            starts = False
        else:
            flags.append(argument)
    address, _, token = address.partition("#")
    if not address:
        raise UsageError("say where to join: kvshim join <host:port>#<token>")
    if token and token_file:
        raise UsageError("the token was given twice: after the # and by --token-file")
    url_of(address)
    return _Wish(address, token, token_file, starts, tuple(flags))


def _token_text(wish: _Wish) -> str:
    if wish.token:
        text = wish.token
    elif wish.token_file:
        try:
            text = Path(wish.token_file).read_text("utf-8")[:_TOKEN_CHARACTERS_MAX]
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise UsageError(f"cannot read the token from {wish.token_file}: {reason}") from None
    elif sys.stdin.isatty():
        text = getpass.getpass("Join token: ")
    else:
        text = sys.stdin.readline(_TOKEN_CHARACTERS_MAX)
    return text.strip().rpartition("#")[2]  # the whole line that `add-node` printed will do too


def _newcomer(config: Config, address: str) -> Newcomer:
    """What this node tells the cluster of itself; without a peer address it finds its own."""
    urls = config.initial_advertise_peer_urls
    if not all(url.tls for url in urls):
        if any(url.host != "localhost" for url in urls):
            raise UsageError(
                "members that join speak TLS to each other: "
                "write https:// in --initial-advertise-peer-urls"
            )
        urls = (Url(Scheme.HTTPS, _own_host(address), _PEER_PORT),)
    name = config.name if config.name != "default" else platform.node() or config.name
    return Newcomer(
        name,
        tuple(map(str, urls)),
        tuple(map(str, config.advertise_client_urls)),
        config.failure_domain,
    )


def _own_host(address: str) -> str:
    """The address that this machine has towards the cluster. Nothing is sent."""
    url = url_of(address)
    try:
        family, kind, _, _, target = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_DGRAM)[
            0
        ]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise PkiError(f"cannot reach {address}: {error.strerror or error}") from None


def _start_flags(config: Config, joined: Joined) -> list[str]:
    """Flags that the node needs beside those given, so that it is where it said it would be."""
    urls = ",".join(joined.peer_urls)
    flags = [
        f"--name={joined.name}",
        f"--data-dir={config.data_dir}",
        f"--initial-advertise-peer-urls={urls}",
    ]
    if not all(url.tls for url in config.listen_peer_urls):
        flags.append(f"--listen-peer-urls={urls}")
    return flags


def _join(data_dir: Path, address: str, token: JoinToken, newcomer: Newcomer) -> Joined | None:
    from kvshim.backend.datadir import DataDir

    directory = DataDir.open(data_dir)  # so that no second join, nor a node, uses it meanwhile
    calls = strangers_calls(data_dir)
    try:
        return asyncio.run(join(data_dir, address, token, newcomer, calls))
    finally:
        directory.close()
