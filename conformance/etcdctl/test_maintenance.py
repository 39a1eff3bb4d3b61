"""endpoint, member, alarm, defrag, version: what an operator asks for."""

import pytest

from conformance.etcdctl.conftest import MakePair
from conformance.etcdctl.normal import COLUMNS
from conformance.etcdctl.pair import Pair

STATUS_COLUMNS = """endpoint, ID, version, storage version, db size, in use, percentage not in use,
    quota, is leader, is learner, raft term, raft index, raft applied index, errors,
    downgrade target version, downgrade enabled"""


@pytest.mark.parametrize("form", ["table", "json", "fields"])
def test_endpoint_status(pair: Pair, form: str):
    pair.run("put", "status", form)
    answers = pair.script(f"""
        endpoint status -w {form}
        endpoint status --cluster -w {form}
    """)
    assert answers[0].stdout


def test_endpoint_status_in_one_line(pair: Pair):
    columns = [name.strip() for name in STATUS_COLUMNS.split(",")]
    rows = []
    for _, out, _ in pair.raw("endpoint", "status"):
        cells = out.decode().strip("\n").split(", ")
        named = dict(zip(columns, cells, strict=True))
        rows.append({name: cell for name, cell in named.items() if name not in COLUMNS})
    del rows[0]["endpoint"], rows[1]["endpoint"]
    assert rows[0] == rows[1]
    assert rows[0]["is leader"] == "true"
    assert rows[0]["errors"] == ""


@pytest.mark.parametrize("form", ["simple", "table", "json", "fields"])
def test_endpoint_health(pair: Pair, form: str):
    assert pair.run("endpoint", "health", "-w", form).stdout
    pair.run("endpoint", "health", "--cluster", "-w", form)


def test_endpoint_hashkv(fresh: Pair):
    """On stores without leases: their ids, which servers choose, are hashed too."""
    fresh.script("""
        put hash/a 1
        put hash/b 1
        del hash/a
        put hash/b 2
    """)
    for form in ("simple", "table", "json", "fields"):
        fresh.script("\n".join(f"endpoint hashkv -w {form} --rev={at}" for at in range(6)))
        fresh.run("endpoint", "hashkv", "-w", form, "--rev=100", fails=True)


@pytest.mark.parametrize("form", ["simple", "table", "json", "fields"])
def test_member_list(pair: Pair, form: str):
    answers = pair.script(f"""
        member list -w {form}
        member list -w {form} --consistency=s
        member list -w {form} --hex
    """)
    assert "m1" in answers[0].stdout


def test_defrag(pair: Pair):
    assert pair.run("defrag").stdout.startswith("Finished defragmenting etcd member[http://<end")
    pair.run("defrag", "--cluster")


def test_no_alarms(pair: Pair):
    for form in ("simple", "json", "fields"):
        pair.script(f"""
            alarm list -w {form}
            alarm disarm -w {form}
        """)


def test_the_alarm_of_a_full_store(make_pair: MakePair):
    """The files grow differently, so how many puts it takes may differ; the answers may not."""
    pair = make_pair(f"--quota-backend-bytes={4 << 20}")
    for side in pair.sides:
        for number in range(60):
            done = side.store.etcdctl("put", f"large/{number}", "x" * 100_000, check=False)
            if done.returncode != 0:
                break
        assert "etcdserver: mvcc: database space exceeded" in done.stderr
        assert number > 20
    answers = pair.script("""
        alarm list
        ! put small x
        ! lease grant 10
        get nothing
        ! endpoint health
    """)
    assert "alarm:NOSPACE" in answers[0].stdout
    assert "Active Alarm(s): NOSPACE" in answers[-1].stderr
    for form in ("table", "fields"):
        texts = [out.decode() for _, out, _ in pair.raw("endpoint", "status", "-w", form)]
        alarms = [text.count("alarm:NOSPACE") for text in texts]
        assert alarms == [1, 1], texts
    pair.script("""
        alarm disarm
        alarm list
    """)


def test_version(pair: Pair):
    assert "etcdctl version: 3.7.3" in pair.run("version").stdout
