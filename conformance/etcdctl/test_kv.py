"""put, get and del with every flag they have, in every output format."""

import itertools
import shlex

import pytest

from conformance.etcdctl.pair import Pair
from kvshim.pb.etcd import rpc_pb2

FORMATS = ["simple", "json", "fields"]

FRUIT = """
    put {p}/apple red
    put {p}/banana yellow
    put {p}/cherry red
    put {p}/apple green
    put {p}/date brown
    put {p}/banana yellow
    put {p}/banana black
    put {p}/elder '' --prev-kv
"""


def fruit(pair: Pair, prefix: str) -> int:
    """Five keys of various versions; returns the revision of the first."""
    first = pair.revision() + 1
    pair.script(FRUIT.format(p=prefix))
    return first


@pytest.mark.parametrize("form", FORMATS)
def test_put_and_its_previous_value(pair: Pair, form: str):
    answers = pair.script(f"""
        put -w {form} put-{form} one
        put -w {form} put-{form} two --prev-kv
        put -w {form} put-{form} --ignore-value --prev-kv
        put -w {form} put-{form} three --ignore-lease --prev-kv
        put -w {form} put-{form}-new value --prev-kv
        put -w {form} put-{form}-empty ''
        get -w {form} put-{form} --prefix
    """)
    assert "two" in answers[2].stdout or form == "json"
    assert len({answer.stdout for answer in answers}) > 3


def test_a_value_from_standard_input(pair: Pair):
    pair.run("put", "stdin/1", stdin="several\nlines\n")
    assert pair.run("get", "stdin/1").stdout == "stdin/1\nseveral\nlines\n\n"
    pair.run("put", "stdin/large", stdin="x" * 1_000_000)
    assert len(pair.run("get", "stdin/large", "--print-value-only").stdout) == 1_000_001


def test_keys_and_values_that_are_no_plain_text(pair: Pair):
    pair.run("put", "bytes/\x01\x7fé", "\t\x1bü€😀\\n")
    for form in FORMATS:
        for flag in ("--hex", "--hex=false"):
            assert pair.run("get", "--prefix", "bytes/", "-w", form, flag).stdout
    pair.script("""
        put -- bytes/-dash -value
        get -- bytes/-dash
    """)


SELECTIONS = ["{p}/banana", "{p}/nothing", "{p}/b {p}/d", "{p}/d {p}/b", "{p}/ --prefix"]
SELECTIONS += ["{p}/c --from-key", "'' --prefix --keys-only", "'' --from-key --keys-only"]
OPTIONS = ["--keys-only", "--print-value-only", "--consistency=s", "--consistency=l", "--stream"]
OPTIONS += ["--limit=0", "--limit=1", "--limit=2", "--limit=5", "--limit=100"]
OPTIONS += ["--order=ASCEND", "--order=DESCEND", "--order=descend --limit=2", "--limit=2 --stream"]


def test_get_of_every_kind_of_range(pair: Pair):
    fruit(pair, "ranges")
    lines = [
        f"get {keys.format(p='ranges')} -w {form} {flag}"
        for keys, form in itertools.product(SELECTIONS, FORMATS)
        for flag in ("", "--consistency=s --stream")
    ]
    answers = pair.script("\n".join(lines))
    assert any("banana" in answer.stdout for answer in answers)


def test_get_with_every_option(pair: Pair):
    first = fruit(pair, "options")
    at = [f"--rev={first + step}" for step in (0, 2, 3, 4, 7)]
    filters = [
        f"--{side}-{kind}-rev={first + step}"
        for side, kind, step in itertools.product(("min", "max"), ("mod", "create"), (0, 2, 5))
    ]
    pairs = [f"--limit=2 {option}" for option in (*filters[::3], *at[::2])]
    lines = [f"get --prefix options/ {option}" for option in (*OPTIONS, *at, *filters, *pairs)]
    answers = pair.script("\n".join(lines))
    pair.script("\n".join(f"{line} -w fields" for line in lines if "print-value" not in line))
    assert len({answer.stdout for answer in answers}) > 10


def test_get_with_every_sort(pair: Pair):
    first = fruit(pair, "sorts")
    lines = [
        f"get --prefix sorts/ --sort-by={target} --order={order} {extra}"
        for target in ("CREATE", "KEY", "MODIFY", "VALUE", "VERSION")
        for order in ("ASCEND", "DESCEND")
        for extra in ("", "--limit=2 -w fields", "--keys-only -w fields", f"--rev={first + 4}")
    ]
    # Sorted without an order: the first keys are taken, and then sorted.
    lines += [
        f"get --prefix sorts/ --sort-by={target} --limit=3 -w fields"
        for target in ("CREATE", "KEY", "MODIFY", "VALUE", "VERSION")
    ]
    answers = pair.script("\n".join(lines))
    assert answers[0].lines[0] == "sorts/apple"


def test_count_only(pair: Pair):
    first = fruit(pair, "count")
    answers = pair.script(f"""
        get count/ --prefix --count-only -w fields
        get count/ --prefix --count-only -w fields --limit=2
        get count/ --prefix --count-only -w fields --rev={first}
        get count/ --prefix --count-only -w fields --stream
        get count/nothing --count-only -w fields
    """)
    assert [answer.lines[-1] for answer in answers] == [
        f'"Count" : {count}' for count in (5, 5, 1, 5, 0)
    ]
    pair.script("""
        ! get count/ --prefix --count-only
        ! get count/ --prefix --count-only --keys-only
    """)


def test_get_as_it_was(pair: Pair):
    first = fruit(pair, "history")
    pair.run("del", "history/apple")
    answers = pair.script(
        "\n".join(f"get history/apple --rev={first + step} -w fields" for step in range(9))
    )
    values = ["red"] * 3 + ["green"] * 5
    assert [f'"Value" : "{value}"' for value in values] == [
        answer.lines[-4] for answer in answers[:8]
    ]
    assert answers[8].lines[-1] == '"Count" : 0'


@pytest.mark.parametrize("form", FORMATS)
def test_del(pair: Pair, form: str):
    fruit(pair, f"del-{form}")
    script = """
        del {p}/apple -w {form}
        del {p}/apple -w {form}
        del {p}/banana -w {form} --prev-kv
        put {p}/banana again
        del {p}/a {p}/c -w {form} --range --prev-kv
        del {p}/c {p}/b -w {form} --range
        put {p}/f f
        del {p}/ --prefix -w {form} --prev-kv
        del {p}/ --prefix -w {form}
        put {p}/g g
        get {p}/ --prefix -w {form}
    """
    pair.script(script.format(p=f"del-{form}", form=form))


def test_del_from_a_key_on(fresh: Pair):
    fruit(fresh, "from")
    answers = fresh.script("""
        del from/date --from-key --prev-kv
        get '' --prefix --keys-only
        del '' --from-key --prev-kv
        put a 1
        del '' --prefix
        get '' --prefix
    """)
    assert answers[0].lines[:3] == ["2", "from/date", "brown"]
    assert answers[-1].stdout == ""


MESSAGES = [
    ("put pb/a 1", rpc_pb2.PutResponse),
    ("put pb/a 2 --prev-kv", rpc_pb2.PutResponse),
    ("put pb/b 3", rpc_pb2.PutResponse),
    ("get pb/ --prefix", rpc_pb2.RangeResponse),
    ("get pb/ --prefix --keys-only", rpc_pb2.RangeResponse),
    ("get pb/ --prefix --limit=1", rpc_pb2.RangeResponse),
    ("get pb/ --prefix --stream", rpc_pb2.RangeResponse),
    ("del pb/ --prefix --prev-kv", rpc_pb2.DeleteRangeResponse),
    ("member list", rpc_pb2.MemberListResponse),
    ("alarm list", rpc_pb2.AlarmResponse),
]


def test_the_bytes_of_messages(pair: Pair):
    for command, kind in MESSAGES:
        raw = pair.raw(*shlex.split(command), "-w", "protobuf")
        assert [code for code, _, _ in raw] == [0, 0], (command, raw)
        hexadecimal = [without_names(kind.FromString(out)).hex() for _, out, _ in raw]
        assert hexadecimal[0] == hexadecimal[1], command
        assert len(hexadecimal[0]) > 20


def without_names(message) -> bytes:
    """The message again, but for the raft term and the client's address."""
    message.header.raft_term = 0
    for member in getattr(message, "members", []):
        assert len(member.clientURLs) == 1
        del member.clientURLs[:]
    return message.SerializeToString()


def test_formats_that_commands_do_not_have(pair: Pair):
    pair.script("""
        ! get format -w table
        ! put format x -w table
        ! get format -w nonsense
        ! get format -w json --print-value-only
    """)


def test_errors_of_the_server(pair: Pair):
    answers = pair.script("""
        put errors/key 1
        ! get errors/key --rev=1000000
        ! get errors/ --prefix --rev=1000000 --stream
        ! get ''
        ! put '' value
        ! del ''
        ! put errors/none --ignore-value
        ! put errors/none x --ignore-lease
        ! put errors/key x --lease=1234
        ! get errors/ --prefix --order=DESCEND --stream
    """)
    said = [answer.stderr.splitlines()[-1] for answer in answers[1:]]
    assert said == [
        "Error: etcdserver: mvcc: required revision is a future revision",
        "Error: etcdserver: mvcc: required revision is a future revision",
        "Error: etcdserver: key is not provided",
        "Error: etcdserver: key is not provided",
        "Error: etcdserver: key is not provided",
        "Error: etcdserver: key not found",
        "Error: etcdserver: key not found",
        "Error: etcdserver: requested lease not found",
        "Error: rpc error: code = Unimplemented desc = RangeStream does not support custom sort "
        "orders",
    ]


def test_a_value_too_large(pair: Pair):
    too_large = pair.run("put", "large", stdin="x" * (1536 * 1024), fails=True)
    assert too_large.stderr.endswith("Error: etcdserver: request is too large\n")
    for size in (2 << 20, 3 << 20):
        pair.run("put", "large", stdin="x" * size, fails=True)
        flag = f"--max-request-bytes={8 << 20}"
        refused = pair.run("put", "large", flag, stdin="x" * size, fails=True)
        assert "larger than max" in refused.stderr
