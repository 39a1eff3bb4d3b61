"""Auth while it is on: logging in, tokens, and what ends them."""

import time

import pytest

from kvshim.pb.etcd import auth_pb2
from tests.api.errors import refused
from tests.api.users import (
    AUTH_FAILED,
    INVALID_TOKEN,
    NO_PASSWORD_USER,
    NOT_ENABLED,
    PERMISSION_DENIED,
    READWRITE,
    ROOT_PASSWORD,
    UserClient,
    add_root,
    add_user,
    auth,
    grant,
    login,
)


class Server:
    """With authentication on and two users; the clients it gave out are closed at the end."""

    def __init__(self, launch, *flags):
        self.nobody = launch("--bcrypt-cost=4", *flags)
        self.clients = []
        add_root(self.nobody)
        add_user(self.nobody, "ann", (READWRITE, b"a", b"b"))
        auth(self.nobody, "Enable")

    def root(self):
        return self.logged_in("root", ROOT_PASSWORD)

    def logged_in(self, name, password):
        return self.with_token(login(self.nobody, name, password))

    def with_token(self, token, field="token"):
        client = UserClient(self.nobody.target, (field, token))
        self.clients.append(client)
        return client


@pytest.fixture
def server(launch):
    server = Server(launch)
    yield server
    for client in server.clients:
        client.close()


@pytest.fixture(scope="module")
def steady(launch):
    """For stories that change no user."""
    server = Server(launch)
    yield server
    for client in server.clients:
        client.close()


def test_a_login_gives_a_token_of_its_own(steady):
    first, second = (login(steady.nobody, "ann", "ann") for _ in range(2))
    assert first != second
    for token in (first, second):
        prefix, _, index = token.partition(".")
        assert (len(prefix), prefix.isalpha(), index.isdigit()) == (16, True, True)
        steady.with_token(token).put(b"a", b"1")


def test_the_answer_to_a_login_has_a_header(steady):
    response = auth(steady.nobody, "Authenticate", name="ann", password="ann")
    assert response.header.revision == steady.root().revision()
    assert 0 not in (response.header.cluster_id, response.header.member_id)


@pytest.mark.parametrize(
    ("name", "password"), [("ann", ""), ("ann", "Ann"), ("nobody", "x"), ("", ""), ("", "x")]
)
def test_a_wrong_name_or_password(steady, name, password):
    with refused(AUTH_FAILED):
        auth(steady.nobody, "Authenticate", name=name, password=password)


def test_only_the_first_72_bytes_of_a_password_count(steady):
    password = "p" * 72
    root = steady.root()
    auth(root, "UserAdd", name="long", password=password)
    assert login(steady.nobody, "long", password)
    assert login(steady.nobody, "long", password + "and more")
    with refused(AUTH_FAILED):
        login(steady.nobody, "long", password[:-1])


def test_passwords_of_any_characters(steady):
    for number, password in enumerate(("", "ü€", " ", "a\x00b")):
        auth(steady.root(), "UserAdd", name=f"odd{number}", password=password)
        assert login(steady.nobody, f"odd{number}", password)
    with refused(AUTH_FAILED):
        login(steady.nobody, "odd3", "a")


@pytest.mark.parametrize(
    "token",
    ["", "x", "x.", ".1", "abc.1", "a.b.c", "a.1.2", "a.-1", "a.1x", "a.99999999999999999999999"],
)
def test_a_token_that_was_never_given_out(steady, token):
    with refused(INVALID_TOKEN):
        steady.with_token(token).range(b"a")
    with refused(INVALID_TOKEN):
        steady.with_token(token).put(b"a")
    with refused(INVALID_TOKEN):
        auth(steady.with_token(token), "Status")


def test_a_login_needs_no_good_token(steady):
    assert login(steady.with_token("abc.1"), "ann", "ann")


def test_a_token_as_http_writes_it(steady):
    token = login(steady.nobody, "ann", "ann")
    steady.with_token(token, "authorization").put(b"a", b"1")
    steady.with_token(f"Bearer {token}", "authorization").put(b"a", b"1")
    steady.with_token(f"Bearer {token}").put(b"a", b"1")
    with refused(INVALID_TOKEN):
        steady.with_token(f"Basic {token}", "authorization").put(b"a", b"1")


def test_a_user_without_password_cannot_log_in(server):
    options = auth_pb2.UserAddOptions(no_password=True)
    auth(server.root(), "UserAdd", name="cert", options=options)
    with refused(NO_PASSWORD_USER):
        login(server.nobody, "cert", "")


def test_a_token_outlives_changes_of_permissions(server):
    ann, root = server.logged_in("ann", "ann"), server.root()
    ann.put(b"a", b"1")
    grant(root, "ann", READWRITE, b"x")
    ann.put(b"x", b"1")
    auth(root, "RoleRevokePermission", role="ann", key=b"x")
    with refused(PERMISSION_DENIED):
        ann.put(b"x", b"2")
    auth(root, "UserRevokeRole", name="ann", role="ann")
    with refused(PERMISSION_DENIED):
        ann.range(b"a")


def test_a_new_password_ends_all_logins(server):
    ann, root = server.logged_in("ann", "ann"), server.root()
    auth(root, "UserChangePassword", name="ann", password="new")
    with refused(INVALID_TOKEN):
        ann.put(b"a", b"1")
    with refused(AUTH_FAILED):
        login(server.nobody, "ann", "ann")
    server.logged_in("ann", "new").put(b"a", b"1")
    root.put(b"a", b"2")


def test_an_empty_new_password_lets_nobody_in(server):
    auth(server.root(), "UserChangePassword", name="ann")
    for password in ("", "ann"):
        with refused(AUTH_FAILED):
            login(server.nobody, "ann", password)


def test_a_deleted_user_is_out(server):
    ann = server.logged_in("ann", "ann")
    auth(server.root(), "UserDelete", name="ann")
    with refused(INVALID_TOKEN):
        ann.put(b"a", b"1")
    with refused(AUTH_FAILED):
        login(server.nobody, "ann", "ann")


def test_switching_it_off_ends_all_logins_and_lets_everybody_in(server):
    ann, root = server.logged_in("ann", "ann"), server.root()
    before = auth(root, "Status").authRevision
    auth(root, "Disable")
    auth(server.nobody, "Disable")
    status = auth(server.nobody, "Status")
    assert (status.enabled, status.authRevision) == (False, before + 1)
    server.nobody.put(b"anything", b"1")
    ann.put(b"anything", b"2")
    with refused(NOT_ENABLED):
        login(server.nobody, "ann", "ann")
    auth(server.nobody, "Enable")
    assert auth(server.nobody, "Status").authRevision == before + 1
    with refused(INVALID_TOKEN):
        ann.put(b"a", b"1")
    server.logged_in("ann", "ann").put(b"a", b"1")


def test_switching_it_on_twice_is_once(server):
    root = server.root()
    before = auth(root, "Status").authRevision
    auth(root, "Enable")
    assert auth(root, "Status").authRevision == before
    root.put(b"a", b"1")


def test_a_token_ends_when_it_was_not_used_for_long_enough(launch):
    server = Server(launch, "--auth-token-ttl=2")
    ann = server.logged_in("ann", "ann")
    for _ in range(4):
        time.sleep(1)
        ann.put(b"a", b"1")
    time.sleep(4.5)
    with refused(INVALID_TOKEN):
        ann.put(b"a", b"1")
    ann.close()


def test_no_kind_of_token_at_all(launch):
    server = Server(launch, "--auth-token=")
    with refused(AUTH_FAILED):
        login(server.nobody, "ann", "ann")
    with refused(INVALID_TOKEN):
        server.with_token("abc.1").put(b"a", b"1")
