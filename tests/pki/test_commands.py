"""The commands: add-node, join, certs, remove-node, against a running admission."""

import asyncio
import io
import json

import pytest

from kvshim.cli.main import main
from kvshim.logs import make_logger
from kvshim.pki.files import Pki
from kvshim.server.admin_socket import AdminServer
from tests.pki.cluster import Lines, cluster_of_one


@pytest.fixture
async def first(tmp_path):
    async with cluster_of_one(tmp_path) as voter:
        handlers = voter.admission.admin_handlers()
        path = tmp_path / "first" / "admin.sock"
        server = AdminServer(path, handlers, make_logger(Lines(), [], 50))
        await server.start()
        yield voter
        await server.stop()


def run(*arguments):
    return asyncio.to_thread(main, list(map(str, arguments)))


async def add_node(tmp_path, capsys, *arguments):
    assert await run("add-node", "--data-dir", tmp_path / "first", *arguments) == 0
    line = capsys.readouterr().out
    assert line.startswith("kvshim join 127.0.0.1:")
    assert line.count("\n") == 1
    return line.split()[2]


JOINING = ("--no-start", "--name=second", "--initial-advertise-peer-urls=https://127.0.0.1:7380")


async def test_one_line_from_add_node_makes_a_member_and_remove_node_ends_it(
    first, tmp_path, capsys
):
    where = await add_node(tmp_path, capsys)
    second = tmp_path / "second"
    for said in ("Joined as member", "has joined that cluster already"):
        assert await run("join", where, "--data-dir", second, *JOINING) == 0
        assert said in capsys.readouterr().err
    assert [m.name for m in first.shared.members] == ["first", "second"]

    assert await run("remove-node", "second", "--data-dir", tmp_path / "first") == 0
    assert "Removed member" in capsys.readouterr().out
    assert [m.name for m in first.shared.members] == ["first"]


async def test_add_node_wants_an_address_for_others_and_opens_one_if_it_can(
    first, tmp_path, capsys
):
    own = first.shared.members[0]
    reachable = list(own.peer_urls)
    own.peer_urls[:] = ["http://localhost:2380"]
    assert await run("add-node", "--data-dir", tmp_path / "first") == 1
    assert "no https:// peer address" in capsys.readouterr().err

    async def open_address(_wanted):
        own.peer_urls[:] = reachable

    first.admission._open_address = open_address
    assert first.address in await add_node(tmp_path, capsys)


@pytest.mark.parametrize("way", ["stdin", "file", "whole line in a file"])
async def test_the_token_need_not_be_an_argument(first, tmp_path, capsys, monkeypatch, way):
    where = await add_node(tmp_path, capsys)
    address, _, token = where.partition("#")
    arguments = []
    if way == "stdin":
        monkeypatch.setattr("sys.stdin", io.StringIO(token + "\n"))
    else:
        file = tmp_path / "token"
        file.write_text(token if way == "file" else f"kvshim join {where}\n")
        arguments = ["--token-file", file]
    second = tmp_path / "second"
    assert await run("join", address, *arguments, "--data-dir", second, *JOINING) == 0
    assert Pki.of(second).exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["join"], "say where to join"),
        (["join", "127.0.0.1:1#nonsense"], "no join token"),
        (["join", "nowhere#x"], "no address"),
        (["join", "127.0.0.1:1", "--token-file", "/absent"], "cannot read the token"),
        (["add-node", "--data-dir", "/absent"], "no kvshim runs on"),
        (["remove-node"], "Missing argument"),
        (["remove-node", "x", "--data-dir", "/absent"], "no kvshim runs on"),
        (["certs", "--data-dir", "/absent"], "holds no certificate"),
        (["certs", "--nonsense"], "No such option"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, sentence, capsys):
    assert main(arguments) != 0
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


async def test_nobody_there_is_one_sentence(first, tmp_path, capsys):
    where = await add_node(tmp_path, capsys)
    token = where.partition("#")[2]
    await first.stop()
    assert await run("join", f"127.0.0.1:1#{token}", "--data-dir", tmp_path / "x", *JOINING) == 1
    assert "cannot reach 127.0.0.1:1" in capsys.readouterr().err


async def test_a_directory_in_use_is_not_joined_with(first, tmp_path, capsys):
    from kvshim.backend.datadir import DataDir

    where = await add_node(tmp_path, capsys)
    held = DataDir.open(tmp_path / "second")
    assert await run("join", where, "--data-dir", tmp_path / "second", *JOINING) == 1
    assert "in use by another kvshim" in capsys.readouterr().err
    held.close()


async def test_a_member_that_does_not_exist_is_said_by_name(first, tmp_path, capsys):
    assert await run("remove-node", "ghost", "--data-dir", tmp_path / "first") == 1
    assert "there is no member 'ghost'" in capsys.readouterr().err


def test_certs_shows_files_subjects_and_expiry(tmp_path, capsys):
    import time

    pki = Pki.of(tmp_path)
    pki.found(0xC1, 0xA1, ["10.0.0.1"], time.time())
    assert main(["certs", "--data-dir", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "00000000000000a1" in table
    assert "364 days" in table
    assert "node.pem" in table
    assert "holds the CA's key" in table

    assert main(["certs", "--data-dir", str(tmp_path), "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["holds_ca_key"] is True
    assert said["certificates"][0]["member_id"] == "a1"
    assert "PRIVATE" not in json.dumps(said)
