"""Auth with signed tokens: `--auth-token=jwt,...`."""

import base64
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.api.errors import ApiError, Code, refused
from tests.api.users import (
    AUTH_FAILED,
    INVALID_TOKEN,
    OLD_REVISION,
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

VERIFY_ONLY = ApiError(Code.UNKNOWN, "auth: token signing attempted with verify-only key")
SECRET = b"a secret that is long enough for every method that there is, even for HS512"


class Keys:
    """A key of each kind, as files."""

    def __init__(self, directory):
        self.directory = directory
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.files = {
            "HS256": (directory / "secret", None),
            "RS256": self._pair("rsa", self.rsa),
            "PS512": self._pair("pss", self.rsa),
            "ES256": self._pair("ec", ec.generate_private_key(ec.SECP256R1())),
            "EdDSA": self._pair("ed", ed25519.Ed25519PrivateKey.generate()),
        }
        (directory / "secret").write_bytes(SECRET)

    def _pair(self, name, key):
        private, public = self.directory / name, self.directory / f"{name}.pub"
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public.write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        return private, public

    def flag(self, method, *, ttl="5m", private=True):
        secret, public = self.files[method]
        options = [f"sign-method={method}", f"ttl={ttl}"]
        options += [f"priv-key={secret}"] if private else []
        options += [f"pub-key={public}"] if public else []
        return f"--auth-token=jwt,{','.join(options)}"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def clients():
    """Makes clients that carry a token; closed at the end."""
    made = []

    def make(server, token):
        made.append(UserClient(server.target, ("token", token)))
        return made[-1]

    yield make
    for client in made:
        client.close()


def started(launch, *flags):
    server = launch("--bcrypt-cost=4", *flags)
    add_root(server)
    add_user(server, "ann", (READWRITE, b"a", b"b"))
    auth(server, "Enable")
    return server


def claims(token):
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def encoded(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("method", ["HS256", "RS256", "PS512", "ES256", "EdDSA"])
def test_every_kind_of_key(launch, keys, clients, method):
    server = started(launch, keys.flag(method))
    token = login(server, "ann", "ann")
    found = claims(token)
    assert jwt.get_unverified_header(token)["alg"] == method
    assert (found["username"], found["revision"]) == ("ann", auth(server, "Status").authRevision)
    assert 200 < found["exp"] - time.time() < 310
    ann = clients(server, token)
    ann.put(b"a", b"1")
    with refused(PERMISSION_DENIED):
        ann.put(b"x", b"1")
    with refused(AUTH_FAILED):
        login(server, "ann", "Ann")


@pytest.fixture(scope="module")
def rsa_server(launch, keys):
    return started(launch, keys.flag("RS256"))


def test_whatever_was_not_signed_by_the_key_is_refused(rsa_server, keys, clients):
    good = login(rsa_server, "ann", "ann")
    head, body, signature = good.split(".")
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    facts = {"username": "ann", "revision": auth(rsa_server, "Status").authRevision}
    public = keys.files["RS256"][1].read_bytes()
    none = encoded({"alg": "none", "typ": "JWT"})
    confused = encoded({"alg": "HS256", "typ": "JWT"})
    for token in (
        f"{head}.{encoded({**facts, 'username': 'root'})}.{signature}",
        f"{head}.{body}.",
        f"{none}.{body}.",
        f"{confused}.{body}.{signature}",
        jwt.encode(facts, other, "RS256"),
        jwt.encode(facts, keys.rsa, "RS512"),
        jwt.encode(facts, keys.rsa, "PS256"),
        jwt.encode(facts, public[27:60], "HS256"),
        "abc.1",
        "",
    ):
        with refused(INVALID_TOKEN):
            clients(rsa_server, token).put(b"a", b"1")


def test_claims(rsa_server, keys, clients):
    now, revision = int(time.time()), auth(rsa_server, "Status").authRevision
    facts = {"username": "ann", "revision": revision}
    for bad in (
        {"username": "ann"},
        {"revision": revision},
        {"username": 5, "revision": revision},
        {"username": "ann", "revision": "2"},
        {**facts, "exp": now - 5},
        {**facts, "nbf": now + 60},
    ):
        with refused(INVALID_TOKEN):
            clients(rsa_server, jwt.encode(bad, keys.rsa, "RS256")).put(b"a", b"1")
    for good in (
        facts,
        {**facts, "iat": now + 60},
        {**facts, "aud": "x", "iss": "y"},
        {**facts, "sub": "x", "revision": float(revision)},
    ):
        clients(rsa_server, jwt.encode(good, keys.rsa, "RS256")).put(b"a", b"1")


def test_a_change_of_permissions_makes_tokens_old(launch, keys, clients):
    server = started(launch, keys.flag("RS256"))
    ann = clients(server, login(server, "ann", "ann"))
    root = clients(server, login(server, "root", ROOT_PASSWORD))
    ann.put(b"a", b"1")
    grant(root, "ann", READWRITE, b"x")
    for call in (
        lambda: ann.put(b"x", b"1"),
        lambda: ann.range(b"a"),
        lambda: ann.delete(b"a"),
        lambda: root.put(b"a", b"1"),
    ):
        with refused(OLD_REVISION):
            call()
    with ann.watch_stream() as stream:
        assert stream.create(b"a").cancel_reason == (
            "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old"
        )
    grant(root, "ann", READWRITE, b"y")  # administration does not look at the revision
    newer = clients(server, login(server, "ann", "ann"))
    newer.put(b"x", b"1")


def test_a_token_has_an_end(launch, keys, clients):
    server = started(launch, keys.flag("ES256", ttl="2s"))
    ann = clients(server, login(server, "ann", "ann"))
    ann.put(b"a", b"1")
    time.sleep(3.5)
    with refused(INVALID_TOKEN):
        ann.put(b"a", b"1")


def test_with_the_public_key_alone_nobody_logs_in(launch, keys, clients):
    server = started(launch, keys.flag("RS256", private=False))
    with refused(VERIFY_ONLY):
        login(server, "ann", "ann")
    facts = {"username": "ann", "revision": auth(server, "Status").authRevision}
    clients(server, jwt.encode(facts, keys.rsa, "RS256")).put(b"a", b"1")
