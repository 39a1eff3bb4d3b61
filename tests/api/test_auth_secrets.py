"""Passwords and tokens are nowhere but with those who use them; a flood of logins delays nobody."""

import json
import threading
import time
import urllib.error
import urllib.request

import grpc
import pytest

from kvshim.pb.etcd import auth_pb2
from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api.errors import refused
from tests.api.users import (
    AUTH_FAILED,
    INVALID_TOKEN,
    PERMISSION_DENIED,
    READWRITE,
    UserClient,
    add_root,
    add_user,
    auth,
    login,
)
from tests.support.datastore import running
from tests.support.grpc_client import EtcdClient

PASSWORD, NEW_PASSWORD, WRONG = "Sesame-open-4711", "Sesame-shut-0815", "Sesame-wrong-123"
FLOOD_LOGINS, FLOOD_COST, FLOOD_SECONDS_MAX = 8, 11, 90.0
"""A tenth of a second each on a machine of its own; these wait for whatever else it does."""


@pytest.fixture
def server(kind, tmp_path):
    with running(kind, tmp_path, "--bcrypt-cost=4", "--log-level=debug") as store:
        yield store


@pytest.mark.usefixtures("_http")
@pytest.mark.kvshim_only  # etcd's debug lines show a token that ran out
def test_no_password_and_no_token_is_written_down(server):
    """Neither in the log for people nor in any file of the store."""
    tokens = []
    client = EtcdClient(server.target)
    add_root(client)
    auth(client, "UserAdd", name="ann", password=PASSWORD)
    options = auth_pb2.UserAddOptions(no_password=True)
    auth(client, "UserAdd", name="cert", password=WRONG, options=options)
    auth(client, "Enable")
    tokens.append(login(client, "root", "root's secret"))
    tokens.append(login(client, "ann", PASSWORD))
    with refused(AUTH_FAILED):
        login(client, "ann", WRONG)
    root, ann = (UserClient(server.target, ("token", token)) for token in tokens)
    auth(root, "UserChangePassword", name="ann", password=NEW_PASSWORD)
    with refused(INVALID_TOKEN):
        ann.put(b"a", b"1")
    tokens.append(login(client, "ann", NEW_PASSWORD))
    ask(server, "/v3/auth/authenticate", {"name": "ann", "password": WRONG})
    ask(server, "/v3/kv/range", {"key": "YQ=="}, tokens[2])
    for one in (client, root, ann):
        one.close()
    files = [path for path in server.directory.rglob("*") if path.is_file()]
    assert server.log in files
    for path in files:
        content = path.read_bytes()
        for secret in (PASSWORD, NEW_PASSWORD, WRONG, "root's secret"):
            assert secret.encode() not in content, path
        for token in tokens:
            assert token.encode() not in content, path
    text = server.log.read_text()
    assert '"msg":"invalid authentication was requested"' in text
    assert "$2a$" not in text
    for token in tokens:
        assert token.partition(".")[0] not in text


def ask(server, path, body, token=None):
    """(status, JSON) of one request of HTTP."""
    request = urllib.request.Request(server.client_url + path, json.dumps(body).encode())
    if token is not None:
        request.add_header("Authorization", token)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.usefixtures("_http")
def test_a_user_by_http(server):
    client = EtcdClient(server.target)
    add_root(client)
    add_user(client, "ann", (READWRITE, b"a", b""))
    auth(client, "Enable")
    client.close()
    status, answer = ask(server, "/v3/auth/authenticate", {"name": "ann", "password": "ann"})
    assert status == 200
    token = answer["token"]
    assert ask(server, "/v3/kv/put", {"key": "YQ==", "value": "MQ=="}, token)[0] == 200
    status, answer = ask(server, "/v3/kv/range", {"key": "YQ=="}, f"Bearer {token}")
    assert (status, answer["kvs"][0]["value"]) == (200, "MQ==")
    status, answer = ask(server, "/v3/kv/range", {"key": "Yg=="}, token)
    assert (status, answer["message"]) == (403, PERMISSION_DENIED.text)
    status, answer = ask(server, "/v3/kv/range", {"key": "YQ=="}, "nonsense.1")
    assert (status, answer["message"]) == (401, INVALID_TOKEN.text)
    status, answer = ask(server, "/v3/kv/range", {"key": "YQ=="})
    assert (status, answer["message"]) == (400, "etcdserver: user name is empty")
    status, answer = ask(server, "/v3/auth/user/list", {}, token)
    assert (status, answer["message"]) == (403, PERMISSION_DENIED.text)
    assert ask(server, "/v3/auth/status", {})[1]["enabled"]


@pytest.mark.kvshim_only  # etcd hashes as many at once as come
def test_a_flood_of_logins_delays_no_other_call(kind, tmp_path):
    with running(kind, tmp_path, f"--bcrypt-cost={FLOOD_COST}") as store:
        client = EtcdClient(store.target)
        add_root(client)
        auth(client, "Enable")
        root = UserClient(store.target, ("token", login(client, "root", "root's secret")))
        root.put(b"k", b"1")
        done: list[str] = []

        def log_in() -> None:
            request = pb.AuthenticateRequest(name="root", password="root's secret")
            method, response = "etcdserverpb.Auth/Authenticate", pb.AuthenticateResponse
            answer = client.call(method, request, response, timeout=FLOOD_SECONDS_MAX)
            done.append(answer.token)

        threads = [threading.Thread(target=log_in) for _ in range(FLOOD_LOGINS)]
        for thread in threads:
            thread.start()
        gets, longest = 0, 0.0
        while any(thread.is_alive() for thread in threads):
            began = time.monotonic()
            root.range(b"k")
            longest = max(longest, time.monotonic() - began)
            gets += 1
        print(f"{gets} gets beside {len(done)} logins, the longest {longest:.3f} s")
        assert len(set(done)) == FLOOD_LOGINS
        assert gets >= 10 * FLOOD_LOGINS
        root.close()
        client.close()


@pytest.mark.kvshim_only
def test_too_many_logins_at_once_are_refused(kind, tmp_path):
    """etcd lets them pile up until their clients give up."""
    with running(kind, tmp_path, "--bcrypt-cost=10") as store:
        client = EtcdClient(store.target)
        add_root(client)
        auth(client, "Enable")
        codes = []

        def log_in() -> None:
            try:
                auth(client, "Authenticate", name="root", password="wrong")
            except grpc.RpcError as error:
                codes.append(error.code())

        threads = [threading.Thread(target=log_in) for _ in range(160)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
        assert codes.count(grpc.StatusCode.INVALID_ARGUMENT) >= 1
        client.close()
