"""`--client-cert-auth`: who shows a certificate and no token is the user of its common name."""

import http.client
import json
import ssl
from contextlib import closing
from dataclasses import dataclass, field

import grpc
import pytest

from kvshim.pb.etcd import auth_pb2
from tests.api.errors import refused
from tests.api.users import (
    INVALID_TOKEN,
    PERMISSION_DENIED,
    READWRITE,
    USER_NOT_FOUND,
    UserClient,
    add_root,
    auth,
    grant,
    login,
)
from tests.support.datastore import Datastore
from tests.support.grpc_client import OPTIONS, EtcdClient
from tests.support.ports import free_ports
from tests.transport.certs import Authority


@dataclass(slots=True)
class TlsDatastore(Datastore):
    """Reached in the clear, and by TLS with a certificate."""

    authority: Authority = field(kw_only=True)
    secure_port: int = 0

    @property
    def secure_target(self) -> str:
        return f"127.0.0.1:{self.secure_port}"

    def command(self) -> list[str]:
        mine = self.authority.issue("server")
        return [
            *Datastore.command(self),
            f"--listen-client-urls={self.client_url},https://{self.secure_target}",
            f"--cert-file={mine.cert_file}",
            f"--key-file={mine.key_file}",
            f"--trusted-ca-file={self.authority.ca_file}",
            "--client-cert-auth",
            "--bcrypt-cost=4",
        ]


class TlsClient(UserClient):
    """A client with a certificate, and perhaps a token."""

    def __init__(self, store, name, *metadata):
        issued = store.authority.issue(name)
        credentials = grpc.ssl_channel_credentials(
            store.authority.ca_file.read_bytes(), issued.key_pem, issued.cert_pem
        )
        channel = grpc.secure_channel(store.secure_target, credentials, options=OPTIONS)
        super().__init__(store.secure_target, *metadata, channel=channel)


@pytest.fixture(scope="module")
def store(kind, tmp_path_factory):
    """Users root, ann (no password, key a) and bob (password, key b), switched on."""
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory)
    (secure,) = free_ports(1)
    store = TlsDatastore(kind, directory / "server", authority=authority, secure_port=secure)
    store.start()
    with closing(EtcdClient(store.target)) as client:
        add_root(client)
        options = auth_pb2.UserAddOptions(no_password=True)
        auth(client, "UserAdd", name="ann", options=options)
        auth(client, "UserAdd", name="bob", password="bob")
        for name, key in (("ann", b"a"), ("bob", b"b")):
            auth(client, "RoleAdd", name=name)
            grant(client, name, READWRITE, key)
            auth(client, "UserGrantRole", user=name, role=name)
        auth(client, "Enable")
    yield store
    store.stop()


@pytest.fixture
def client(store):
    """Makes clients with a certificate of this name; closed at the end."""
    made = []

    def make(name, *metadata):
        made.append(TlsClient(store, name, *metadata))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_certificate_names_the_user(client):
    ann = client("ann")
    ann.put(b"a", b"1")
    assert ann.range(b"a").count == 1
    lease = ann.grant(60).ID
    assert ann.keep_alive(lease)[0].TTL > 0
    with refused(PERMISSION_DENIED):
        ann.put(b"b", b"1")
    with ann.watch_stream() as stream:
        assert not stream.create(b"a").canceled
        assert "permission denied" in stream.create(b"b").cancel_reason
    client("root").put(b"anything", b"1")


def test_a_certificate_never_grows_old(client):
    """Its revision is the present one, while a signed token's is that of its login."""
    ann, root = client("ann"), client("root")
    grant(root, "ann", READWRITE, b"a2")
    ann.put(b"a2", b"1")


def test_a_token_goes_before_the_certificate(client):
    token = login(client("ann"), "bob", "bob")
    both = client("ann", ("token", token))
    both.put(b"b", b"1")
    with refused(PERMISSION_DENIED):
        both.put(b"a", b"1")
    with refused(INVALID_TOKEN):
        client("ann", ("token", "x")).put(b"a", b"1")


def test_a_certificate_of_nobody(client):
    with refused(PERMISSION_DENIED):
        client("stranger").put(b"a", b"1")
    with refused(USER_NOT_FOUND):
        client("stranger").hash_kv()
    assert client("stranger").status().version


@pytest.mark.usefixtures("_http")
def test_by_http_a_certificate_is_no_user(store):
    context = ssl.create_default_context(cafile=str(store.authority.ca_file))
    issued = store.authority.issue("root")
    context.load_cert_chain(issued.cert_file, issued.key_file)
    connection = http.client.HTTPSConnection(store.secure_target, context=context, timeout=20)
    headers = {"Accept": "*/*", "Content-Type": "application/json"}
    connection.request("POST", "/v3/kv/range", '{"key":"YQ=="}', headers)
    response = connection.getresponse()
    assert (response.status, response.getheader("Content-Type")) == (
        400,
        "text/plain; charset=utf-8",
    )
    assert response.read() == (
        b"CommonName of client sending a request against gateway will be ignored and not used as"
        b" expected\n"
    )
    connection.request("GET", "/version", headers=headers)
    assert json.load(connection.getresponse())["etcdserver"]
    connection.close()
