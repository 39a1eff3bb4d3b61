"""txn: comparisons of every kind, both branches, typed line by line."""

import itertools
from collections.abc import Sequence

import pytest

from conformance.etcdctl.pair import Answer, Pair
from kvshim.pb.etcd import rpc_pb2


def txn(
    pair: Pair,
    compares: Sequence[str],
    success: Sequence[str] = (),
    failure: Sequence[str] = (),
    *flags: str,
    fails: bool = False,
) -> Answer:
    """One transaction as a person types it: three blocks, each ended by an empty line."""
    typed = "".join("".join(f"{line}\n" for line in (*block, "")) for block in (compares, success))
    typed += "".join(f"{line}\n" for line in (*failure, ""))
    return pair.run("txn", *flags, stdin=typed, fails=fails)


YES, NO = ["get txn/yes"], ["get txn/no"]

TARGETS = {
    "value": ["", "1", "2", "3"],
    "version": ["-1", "0", "2"],
    "create": ["0", "{first}"],
    "mod": ["0", "{first}", "{second}"],
}


@pytest.mark.parametrize("key", ["txn/present", "txn/absent"])
def test_every_comparison(pair: Pair, key: str):
    pair.script("""
        del txn/present
        put txn/present 1
        put txn/present 2
        put txn/yes 1
        put txn/no 1
    """)
    first = pair.revision() - 3
    said = {
        txn(
            pair,
            [f'{target}("{key}") {sign} "{operand.format(first=first, second=first + 1)}"'],
            YES,
            NO,
        ).lines[0]
        for target, operands in TARGETS.items()
        for operand, sign in itertools.product(operands, ("=", "!=", "<", ">"))
    }
    assert said == {"SUCCESS", "FAILURE"}


def test_short_names_and_several_comparisons(pair: Pair):
    pair.run("put", "txn/several", "x")
    holds = ['ver("txn/several") = "1"', 'val("txn/several") = "x"', 'c("txn/several") > "1"']
    assert txn(pair, holds, YES, NO).lines[0] == "SUCCESS"
    assert txn(pair, [*holds, 'm("txn/several") = "1"'], YES, NO).lines[0] == "FAILURE"
    assert txn(pair, [], YES, NO).lines[0] == "SUCCESS"
    assert txn(pair, holds).stdout == "SUCCESS\n"


def test_comparing_a_lease(pair: Pair):
    """Not by hand: etcdctl hands the lease over as text, and its own library breaks on that."""
    for code, out, err in pair.raw("txn", stdin='lease("txn/leased") = "0"\n\n\n\n'):
        assert code == 2
        assert not out
        assert err.startswith(b"panic: bad value")


@pytest.mark.parametrize("form", ["simple", "json", "fields"])
def test_what_the_branches_do(pair: Pair, form: str):
    at = f"branch-{form}"
    pair.script(f"""
        put {at}/a 1
        put {at}/b 1
    """)
    work = [
        f"put {at}/c 2",
        f"put {at}/a 3 --prev-kv",
        f"get {at}/ {at}0",
        f"get {at}/ --prefix --keys-only --limit=1",
        f"get {at}/none",
        f"del {at}/b --prev-kv",
        f"del {at}/none",
    ]
    before = pair.revision()
    txn(pair, [f'version("{at}/a") = "1"'], work, NO, "-w", form)
    assert pair.revision() == before + 1
    txn(pair, [f'version("{at}/a") = "1"'], NO, work[2:], "-w", form)
    assert pair.revision() == before + 1
    pair.run("get", "--prefix", at, "-w", form)


def test_the_interactive_prompts(pair: Pair):
    answer = txn(pair, ['mod("prompt") = "0"'], ['put prompt "with spaces"'], YES, "-i")
    assert answer.lines[0] == "compares:"
    assert "success requests (get, put, del):" in answer.lines
    assert pair.run("get", "prompt").lines == ["prompt", "with spaces"]


def test_the_bytes_of_the_message(pair: Pair):
    typed = "\nput pbtxn/a 1\nput pbtxn/b 2 --prev-kv\nget pbtxn/ --prefix\ndel pbtxn/c\n\n\n"
    dumps = []
    for code, out, err in pair.raw("txn", "-w", "protobuf", stdin=typed):
        assert code == 0, err
        message = rpc_pb2.TxnResponse.FromString(out)
        message.header.raft_term = 0
        assert len(message.responses) == 4
        dumps.append(message.SerializeToString().hex())
    assert dumps[0] == dumps[1]


def test_a_transaction_in_the_past_and_in_the_future(pair: Pair):
    pair.run("put", "times/a", "1")
    revision = pair.revision()
    pair.run("put", "times/a", "2")
    answer = txn(pair, [], ["put times/b 1", f"get times/a --rev={revision}"])
    assert answer.lines[-1] == "1"
    future = [f"get times/a --rev={revision + 100}"]
    assert "future revision" in txn(pair, [], future, fails=True).stderr
    # The revision that the transaction itself makes is future too.
    own = ["put times/b 1", f"get times/a --rev={pair.revision() + 1}"]
    assert "future revision" in txn(pair, [], own, fails=True).stderr


def test_transactions_that_the_server_refuses(pair: Pair):
    twice = ["put same 1", "put same 2"]
    assert "duplicate key given in txn request" in txn(pair, [], twice, fails=True).stderr
    overlap = ["put same 1", "del same --prefix"]
    assert "duplicate key given in txn request" in txn(pair, [], overlap, fails=True).stderr
    many = [f"put many/{number} x" for number in range(129)]
    assert "too many operations in txn request" in txn(pair, [], many, fails=True).stderr
    assert txn(pair, [], many[:128]).lines.count("OK") == 128
    txn(pair, [], ["put same 1 --lease=1234"], fails=True)
    txn(pair, [], ["put txn/none --ignore-value"], fails=True)
    txn(pair, ['value("") = "x"'], YES, NO, fails=True)
    txn(pair, [], ['get ""'], fails=True)


def test_what_etcdctl_itself_refuses(pair: Pair):
    txn(pair, ["nonsense"], YES, NO, fails=True)
    txn(pair, ['size("a") = "1"'], YES, NO, fails=True)
    txn(pair, [], ["nonsense a"], fails=True)
    pair.run("txn", "stray", fails=True)
