"""Nodes join a cluster, or do not: over real TLS, with the tokens in a real store."""

import asyncio
import dataclasses
import ssl
import stat

import pytest

from kvshim.apply.tokens import find_token
from kvshim.pb.kvshim.join_pb2 import (
    CaKeyAnswer,
    CaKeyRequest,
    JoinAnswer,
    JoinRequest,
    JoinStatement,
)
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.pki.certificates import (
    CertificateAuthority,
    PkiError,
    authorize,
    inspect,
    key_pem,
    make_csr,
    new_key,
)
from kvshim.pki.contexts import joining_context, probe_context
from kvshim.pki.files import Pki
from kvshim.pki.tokens import JoinToken
from kvshim.server.admission import TOKEN_TTL_SECONDS, WRONG_TRIES_MAX
from kvshim.server.joining import Joined, Newcomer, join
from raft.transport.options import CallRefused
from tests.pki.cluster import CLUSTER_ID, Calls, cluster_of_one, impostor, second_voter

YEAR = 365 * 86_400.0


@pytest.fixture
async def first(tmp_path):
    async with cluster_of_one(tmp_path) as voter:
        yield voter


HOSTS = {"second": "10.0.0.2", "third": "10.0.0.3", "a": "10.0.0.4", "b": "10.0.0.5"}


def newcomer(name="second"):
    host = HOSTS[name]
    return Newcomer(name, (f"https://{host}:2380",), (f"https://{host}:2379",))


async def new_token(voter, **options):
    token, _ = await voter.admission.make_token(**options)
    return JoinToken.parse(token.text)


def enter(voter, data_dir, token, name="second", **options):
    return join(data_dir, voter.address, token, newcomer(name), Calls(), **options)


async def test_a_node_joins_with_one_token_and_running_it_again_is_harmless(first, tmp_path):
    data_dir = tmp_path / "second"
    token = await new_token(first)

    joined = await enter(first, data_dir, token)

    assert joined.cluster_id == CLUSTER_ID
    assert [m.name for m in first.shared.members] == ["first", "second"]
    added = first.shared.members[1]
    assert (added.id, added.learner, added.managed) == (joined.member_id, True, True)
    assert tuple(added.peer_urls) == newcomer().peer_urls
    assert [peer.name for peer in joined.members] == ["first", "second"]
    pki = Pki.of(data_dir)
    assert authorize(pki.certificate(), CLUSTER_ID, joined.member_id) is None
    assert "10.0.0.2" in pki.node().hosts
    assert Joined.load(data_dir) == joined
    files = [path for path in data_dir.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"joined.json", "ca.crt", "node.pem"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}

    assert await enter(first, data_dir, token) is None
    assert len(first.shared.members) == 2


async def test_a_node_that_a_recovered_cluster_left_behind_is_told(first, tmp_path):
    data_dir = tmp_path / "second"
    token = await new_token(first)
    await enter(first, data_dir, token)
    key = new_key()
    names = (make_csr(key), CLUSTER_ID + 1, 1, ["127.0.0.1"], first.shared.now)
    chain = tmp_path / "recovered.pem"
    certificates = (first.pki.authority().issue(*names), first.pki.ca_certificate())
    chain.write_bytes(key_pem(key) + "".join(map(ssl.DER_cert_to_PEM_cert, certificates)).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    async with impostor(context) as (address, heard):
        with pytest.raises(PkiError, match="was recovered: empty it and join anew"):
            await join(data_dir, address, token, newcomer(), Calls())
    assert heard == b""
    assert await join(data_dir, address, token, newcomer(), Calls()) is None  # nobody answers


async def test_of_two_joiners_with_one_token_exactly_one_gets_in(first, tmp_path):
    token = await new_token(first)
    outcomes = await asyncio.gather(
        *(enter(first, tmp_path / name, token, name) for name in ("a", "b")),
        return_exceptions=True,
    )

    refused = [outcome for outcome in outcomes if isinstance(outcome, PkiError)]
    assert [str(error) for error in refused] == [
        "the join token was used by another node: make a new one"
    ]
    assert len(first.shared.members) == 2
    assert sum(Pki.of(tmp_path / name).exists() for name in ("a", "b")) == 1


@pytest.mark.parametrize("shows_the_real_ca", [False, True])
async def test_a_man_in_the_middle_hears_nothing(first, tmp_path, shows_the_real_ca):
    token = await new_token(first)
    other = CertificateAuthority.create(CLUSTER_ID, first.shared.now)
    key = new_key()
    leaf = other.issue(make_csr(key), CLUSTER_ID, 1, ["127.0.0.1"], first.shared.now)
    ca = first.pki.ca_certificate() if shows_the_real_ca else other.certificate_der
    chain = tmp_path / "impostor.pem"
    chain.write_bytes(key_pem(key) + "".join(map(ssl.DER_cert_to_PEM_cert, (leaf, ca))).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)

    async with impostor(context) as (address, heard):
        with pytest.raises(PkiError, match="nothing was sent to it"):
            await join(tmp_path / "second", address, token, newcomer(), Calls())

    assert heard == b""
    assert not Pki.of(tmp_path / "second").exists()


async def test_a_token_expires_by_the_clusters_clock(first, tmp_path):
    token = await new_token(first)
    first.shared.now += TOKEN_TTL_SECONDS
    with pytest.raises(PkiError, match="has expired"):
        await enter(first, tmp_path / "second", token)
    assert len(first.shared.members) == 1


async def test_guessing_is_cut_off_even_for_the_right_token_until_the_window_ends(first, tmp_path):
    token = await new_token(first)
    for _ in range(WRONG_TRIES_MAX):
        with pytest.raises(PkiError, match="not known"):
            await enter(first, tmp_path / "x", JoinToken.create(token.ca_fingerprint))
    for wrong_or_right in (JoinToken.create(token.ca_fingerprint), token):
        with pytest.raises(PkiError, match="too many wrong tries"):
            await enter(first, tmp_path / "x", wrong_or_right)
    first.monotonic += 61
    assert await enter(first, tmp_path / "x", token) is not None


async def test_a_wrong_proof_spends_nothing(first, tmp_path):
    token = await new_token(first)

    class Meddler(Calls):
        async def call(self, url, method, payload, timeout, *, tls):  # noqa: ASYNC109
            if method == "join":
                payload = payload.replace(b"https://10.0.0.2", b"https://10.6.6.6")
            return await super().call(url, method, payload, timeout, tls=tls)

    with pytest.raises(PkiError, match="proof of the join token is wrong"):
        await join(tmp_path / "x", first.address, token, newcomer(), Meddler())
    assert len(first.shared.members) == 1
    assert await enter(first, tmp_path / "x", token) is not None


class Recorder(Calls):
    """Keeps the payload of the join call, and sends something else, or later."""

    def __init__(self, before_join=None, change=lambda payload: payload):
        self.before_join = before_join
        self.change = change
        self.payload = b""
        super().__init__()

    async def call(self, url, method, payload, timeout, *, tls):  # noqa: ASYNC109
        if method == "join":
            self.payload = payload
            payload = self.change(payload)
            if self.before_join:
                self.before_join()
        return await super().call(url, method, payload, timeout, tls=tls)


async def test_a_challenge_is_old_after_a_minute(first, tmp_path):
    def wait():
        first.shared.now += 61

    token = await new_token(first)
    with pytest.raises(PkiError, match="challenge is too old"):
        await join(tmp_path / "x", first.address, token, newcomer(), Recorder(wait))
    assert len(first.shared.members) == 1


async def test_a_challenge_that_the_joiner_made_up_is_refused(first, tmp_path):
    token = await new_token(first)

    def forge(payload):
        request = JoinRequest.FromString(payload)
        statement = JoinStatement.FromString(request.statement)
        statement.nonce = statement.nonce[:-1] + bytes([statement.nonce[-1] ^ 1])
        signed = statement.SerializeToString()
        return JoinRequest(statement=signed, proof=token.prove(signed)).SerializeToString()

    with pytest.raises(PkiError, match="challenge is too old"):
        await join(tmp_path / "x", first.address, token, newcomer(), Recorder(change=forge))


async def test_a_statement_for_one_member_is_of_no_use_to_another(first, tmp_path):
    joined = await enter(first, tmp_path / "second", await new_token(first))
    async with second_voter(first, tmp_path / "second", joined) as second:
        await second.keeper.step()
        calls = Recorder()
        await join(tmp_path / "x", first.address, await new_token(first), newcomer("third"), calls)
        context = joining_context(first.pki.ca_certificate())
        answer = await Calls().call(
            f"https://{second.address}", "join", calls.payload, 5.0, tls=context
        )
    assert "proof of the join token is wrong" in JoinAnswer.FromString(answer).refusal


async def test_a_member_gone_bad_cannot_hand_out_another_ca(first, tmp_path):
    token = await new_token(first)
    other = CertificateAuthority.create(CLUSTER_ID, first.shared.now)

    class Forger(Calls):
        async def call(self, url, method, payload, timeout, *, tls):  # noqa: ASYNC109
            answer = await super().call(url, method, payload, timeout, tls=tls)
            if method == "join":
                request = JoinRequest.FromString(payload)
                csr = JoinStatement.FromString(request.statement).csr
                answer = JoinAnswer(
                    certificate=other.issue(csr, CLUSTER_ID, 7, [], first.shared.now),
                    ca_certificate=other.certificate_der,
                    cluster_id=CLUSTER_ID,
                    member_id=7,
                ).SerializeToString()
            return answer

    with pytest.raises(PkiError, match="another CA"):
        await join(tmp_path / "x", first.address, token, newcomer(), Forger())
    assert not Pki.of(tmp_path / "x").exists()
    assert not Pki.of(tmp_path / "x").ca_file.exists()


@pytest.mark.parametrize("trouble", ["answer lost", "member not added"])
async def test_a_join_cut_short_goes_on_with_the_same_token_and_id(first, tmp_path, trouble):
    token = await new_token(first)
    first.transport.answers_lost = int(trouble == "answer lost")
    first.fail_next_add = trouble == "member not added"
    with pytest.raises(PkiError):
        await enter(first, tmp_path / "second", token)

    joined = await enter(first, tmp_path / "second", token)

    assert [m.id for m in first.shared.members] == [1, joined.member_id]


async def test_one_joiner_twice_at_once_is_one_member(first, tmp_path):
    token = await new_token(first)
    joined = await asyncio.gather(*(enter(first, tmp_path / "second", token) for _ in range(2)))
    assert joined[0].member_id == joined[1].member_id
    assert len(first.shared.members) == 2


async def test_even_a_new_token_does_not_make_two_members_of_one_node(first, tmp_path):
    first.transport.answers_lost = 1
    with pytest.raises(PkiError):
        await enter(first, tmp_path / "second", await new_token(first))
    first.shared.now += TOKEN_TTL_SECONDS
    await enter(first, tmp_path / "second", await new_token(first))
    assert len(first.shared.members) == 2


async def test_with_the_first_node_gone_another_voter_admits(first, tmp_path):
    joined = await enter(first, tmp_path / "second", await new_token(first))
    learner = first.shared.members[1]
    async with second_voter(first, tmp_path / "second", joined) as second:
        voter, first.shared.members[1] = first.shared.members[1], learner
        keeping = asyncio.create_task(second.keeper.run())
        await second.step_done.wait()
        assert not second.pki.ca_key_file.exists()

        first.shared.members[1] = voter
        second.step_done.clear()
        second.members_changed.set()
        await second.step_done.wait()
        keeping.cancel()
        assert stat.S_IMODE(second.pki.ca_key_file.stat().st_mode) == 0o600
        await first.stop()
        third = await enter(second, tmp_path / "third", await new_token(second), "third")
    assert third.member_id not in (1, joined.member_id)
    assert len(first.shared.members) == 3


async def test_a_learner_does_not_get_the_cas_key_and_sends_joiners_to_a_voter(first, tmp_path):
    joined = await enter(first, tmp_path / "second", await new_token(first))
    learner = first.shared.members[1]
    async with second_voter(first, tmp_path / "second", joined) as second:
        first.shared.members[1] = learner
        await second.keeper._fetch_ca_key()
        with pytest.raises(PkiError, match="only voters"):
            await second.keeper._ask_voters(*_asking_for_the_key())
        assert second.pki.authority() is None

        third = await enter(second, tmp_path / "third", await new_token(first), "third")
    assert first.shared.members[2].id == third.member_id


def _asking_for_the_key():
    return "ca-key", CaKeyRequest(), CaKeyAnswer


async def test_a_removed_member_keeps_no_rights(first, tmp_path):
    joined = await enter(first, tmp_path / "second", await new_token(first))
    async with second_voter(first, tmp_path / "second", joined) as second:
        await first.remove(joined.member_id)
        with pytest.raises(PkiError, match="was removed from the cluster"):
            await second.keeper._ask_voters(*_asking_for_the_key())
        first.shared.removed.clear()  # not known so far where the connection is accepted
        with pytest.raises(PkiError, match="not in the cluster"):
            await second.keeper._ask_voters(*_asking_for_the_key())


async def test_a_member_cannot_speak_for_another(first, tmp_path):
    joined = await enter(first, tmp_path / "second", await new_token(first))
    lie = dataclasses.replace(joined, member_id=joined.member_id ^ 1)
    async with second_voter(first, tmp_path / "second", lie) as liar:
        with pytest.raises(PkiError, match="certificate is for the member"):
            await liar.keeper._ask_voters(*_asking_for_the_key())


async def test_a_machine_that_begins_anew_is_told_to_remove_its_old_self_first(first, tmp_path):
    joined = await enter(first, tmp_path / "second", await new_token(first))
    token = await new_token(first)
    with pytest.raises(PkiError, match=f"kvshim remove-node {joined.member_id:x}"):
        await enter(first, tmp_path / "second, emptied", token)
    await first.remove(joined.member_id)
    again = await enter(first, tmp_path / "second, emptied", token)
    assert again.member_id != joined.member_id


async def test_strangers_can_make_no_call_of_members(first):
    context = joining_context(first.pki.ca_certificate())
    for method in ("renew", "ca-key"):
        with pytest.raises(CallRefused, match="only members"):
            await Calls().call(f"https://{first.address}", method, b"", 5.0, tls=context)


async def test_a_certificate_renews_itself_by_a_voter_without_a_restart(first, tmp_path):
    joined = await enter(first, tmp_path / "second", await new_token(first))
    async with second_voter(first, tmp_path / "second", joined) as second:
        first.shared.members[1] = Member(
            id=joined.member_id, name="second", peer_urls=("https://10.9.9.9:2380",), learner=True
        )
        before = second.pki.node()
        await second.keeper.step()
        assert second.pki.node() == before  # not yet due

        first.shared.now += 0.7 * YEAR
        shown = await _certificate_shown_by(second)
        await second.keeper.step()

        after = second.pki.node()
        assert (after.member_id, after.cluster_id) == (before.member_id, before.cluster_id)
        assert after.not_after > before.not_after
        assert "10.9.9.9" in after.hosts  # addresses may have changed
        # The clock of TLS is the real one, for which the new certificate is of the future; so look
        # at what is shown only.
        assert await _certificate_shown_by(second) == second.pki.certificate() != shown
        assert "renewed the member's certificate" in second.lines.text


async def _certificate_shown_by(voter):
    _, writer = await asyncio.open_connection("127.0.0.1", voter.port, ssl=probe_context())
    try:
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()


async def test_a_node_off_for_longer_than_its_certificate_renews_by_token_and_keeps_its_id(
    first, tmp_path
):
    data_dir = tmp_path / "second"
    joined = await enter(first, data_dir, await new_token(first))
    pki = Pki.of(data_dir)
    _make_expired(first, pki, joined.member_id)
    async with second_voter(first, data_dir, joined) as second:
        # TLS itself refuses the certificate, so no member is asked anything.
        with pytest.raises(PkiError, match=r"127\.0\.0\.1"):
            await second.keeper._ask_voters(*_asking_for_the_key())

    again = await enter(first, data_dir, await new_token(first, renews=joined.member_id))

    assert again.member_id == joined.member_id
    assert pki.node().not_after > first.shared.now
    assert len(first.shared.members) == 2
    async with second_voter(first, data_dir, joined) as second:
        assert (await second.keeper._ask_voters(*_asking_for_the_key())).key


async def test_a_token_that_renews_does_not_bring_back_a_removed_member(first, tmp_path):
    joined = await enter(first, tmp_path / "second", await new_token(first))
    _make_expired(first, Pki.of(tmp_path / "second"), joined.member_id)
    token = await new_token(first, renews=joined.member_id)
    await first.remove(joined.member_id)
    with pytest.raises(PkiError, match="no longer in the cluster"):
        await enter(first, tmp_path / "second", token)


def _make_expired(voter, pki, member_id):
    key = pki.node_key()
    old = voter.pki.authority().issue(
        make_csr(key), CLUSTER_ID, member_id, ["127.0.0.1"], voter.shared.now - 1.1 * YEAR
    )
    pki.keep_certificate(key, old, voter.pki.ca_certificate())
    assert inspect(old).not_after < voter.shared.now


async def test_a_directory_of_another_cluster_is_left_alone(first, tmp_path):
    Pki.of(tmp_path / "other").found(0xD0, 7, [], first.shared.now)
    before = (tmp_path / "other" / "pki" / "node.pem").read_bytes()
    with pytest.raises(PkiError, match="belongs to another cluster"):
        await enter(first, tmp_path / "other", await new_token(first))
    assert (tmp_path / "other" / "pki" / "node.pem").read_bytes() == before


@pytest.mark.parametrize(
    ("urls", "sentence"),
    [
        ((), "no https:// peer address"),
        (("http://10.0.0.2:2380",), "can reach by TLS"),
        (("https://10.0.0.2:2380",) * 9, "too many"),
        (("nonsense",), "URL scheme"),
    ],
)
async def test_a_node_that_nobody_could_reach_is_refused_before_the_token_is_spent(
    first, tmp_path, urls, sentence
):
    token = await new_token(first)
    with pytest.raises(PkiError, match=sentence):
        await join(tmp_path / "x", first.address, token, Newcomer("x", urls), Calls())
    with first.shared.store.read() as view:
        assert find_token(view, token.id).spent_by == b""


async def test_no_secret_is_logged_or_stored(first, tmp_path):
    token = await new_token(first)
    await enter(first, tmp_path / "second", token)
    with first.shared.store.read() as view:
        stored = view.meta("tokens")
    assert token.secret not in stored
    assert token.text.partition(".")[0] not in first.lines.text
