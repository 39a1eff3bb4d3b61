"""The operator's socket: calls, refusals and limits, over the real thing."""

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from kvshim.errors import KvshimError, NoLeader
from kvshim.logs import make_logger
from kvshim.server.admin_socket import REQUEST_BYTES_MAX, AdminClient, AdminError, AdminServer


class Lines:
    def __init__(self):
        self.lines = []

    def write(self, line):
        self.lines.append(line)


async def echo(arguments):
    return {"echo": arguments}


async def refuse(_):
    raise KvshimError("the cat sits on it")


async def no_leader(_):
    raise NoLeader


async def broken(_):
    raise ZeroDivisionError("secret detail")


HANDLERS = {"echo": echo, "refuse": refuse, "no-leader": no_leader, "broken": broken}


@pytest.fixture
async def node(tmp_path: Path):
    output = Lines()
    log = make_logger(output, [lambda _, __, fields: repr(fields).encode()], 10)
    server = AdminServer(tmp_path / "admin.sock", HANDLERS, log)
    await server.start()
    yield tmp_path / "admin.sock", output
    await server.stop()


def call(path, name, arguments=None):
    return asyncio.to_thread(AdminClient(path).call, name, arguments)


async def test_a_call_gets_its_handlers_answer_and_strangers_no_access(node):
    path, _ = node
    assert await call(path, "echo", {"n": 1}) == {"echo": {"n": 1}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("refuse", "the cat sits on it"),
        ("no-leader", "etcdserver: no leader"),
        ("unheard-of", "does not know that call"),
    ],
)
async def test_a_refusal_is_one_sentence(node, name, sentence):
    with pytest.raises(AdminError, match=sentence):
        await call(node[0], name)


async def test_an_unforeseen_error_goes_to_the_log_and_not_to_the_caller(node):
    path, output = node
    with pytest.raises(AdminError, match="internal error"):
        await call(path, "broken")
    assert b"secret detail" in output.lines[0]


@pytest.mark.parametrize(
    "line", [b"[]\n", b"{}\n", b"nonsense\n", b'{"call":{}}\n', b"[" * 9999 + b"\n"]
)
async def test_a_request_that_is_none_is_refused_and_the_door_stays_open(node, line):
    reader, writer = await asyncio.open_unix_connection(node[0])
    for _ in range(2):
        writer.write(line)
        assert b'"error"' in await reader.readline()
    writer.close()


async def test_a_request_without_end_is_cut_off(node):
    reader, writer = await asyncio.open_unix_connection(node[0])
    writer.write(b"x" * (3 * REQUEST_BYTES_MAX))
    assert b"too long" in await reader.readline()
    writer.close()


async def test_a_socket_left_by_a_crash_is_replaced_and_one_of_a_stopped_node_says_so(tmp_path):
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(AdminError, match="no kvshim runs on"):
        await call(path, "echo")
    server = AdminServer(path, HANDLERS, make_logger(Lines(), [], 50))
    await server.start()
    assert await call(path, "echo") == {"echo": {}}
    await server.stop()
    with pytest.raises(AdminError, match="no kvshim runs on"):
        await call(path, "echo")


async def test_a_long_path_works_too(tmp_path):
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    server = AdminServer(directory / "admin.sock", HANDLERS, make_logger(Lines(), [], 50))
    await server.start()
    assert await call(directory / "admin.sock", "echo") == {"echo": {}}
    await server.stop()
