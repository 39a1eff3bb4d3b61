"""lock, elect and make-mirror: recipes that etcdctl cooks from leases, transactions and watches."""

import subprocess

from conformance.etcdctl.pair import Pair, Side, wait_until, watchers


def test_lock_around_a_command(pair: Pair):
    answer = pair.run("lock", "mutex", "--", "sh", "-c", "echo $ETCD_LOCK_KEY; exit 3", fails=True)
    assert answer.code == 3
    assert answer.lines == ["mutex/<session>"]
    assert pair.run("get", "mutex", "--prefix").stdout == ""


def test_a_lock_is_waited_for(pair: Pair):
    with pair.running("lock", "mutex") as first:
        first.wait_for("mutex/<session>")
        with pair.running("lock", "mutex") as second:
            pair.wait_for_watchers(1)
            assert len(pair.run("get", "mutex", "--prefix", "--keys-only").lines) == 4
            first.interrupt()
            second.wait_for("mutex/<session>")
            second.interrupt()
    assert pair.run("get", "mutex", "--prefix").stdout == ""


def test_an_election(pair: Pair):
    with pair.running("elect", "chair", "first") as leader:
        leader.wait_for("first")
        with pair.running("elect", "-l", "chair") as observer:
            observer.wait_for("first")
            with pair.running("elect", "chair", "second") as candidate:
                wanted = "chair/<session>"
                pair.wait_for_watchers(2)
                leader.interrupt()
                candidate.wait_for(wanted)
                observer.wait_for("second")
                candidate.interrupt()
            observer.interrupt()


def test_a_mirror_of_each_other(pair: Pair):
    mirror_all(pair.etcd, pair.kvshim)
    mirror_all(pair.kvshim, pair.etcd)


def mirror_all(source: Side, target: Side) -> None:
    """What was there before, and what changes then."""
    prefix = f"{source.store.kind.value}/"
    source.store.etcdctl("put", f"{prefix}before", "1")
    command = ("make-mirror", f"--prefix={prefix}", target.store.endpoint)
    mirror = source.popen(command, subprocess.DEVNULL, subprocess.DEVNULL)
    try:
        wait_until(lambda: "" if watchers(source.store) else "the mirror does not watch")
        source.store.etcdctl("del", f"{prefix}before")
        source.store.etcdctl("put", f"{prefix}after", "2")
        wanted = f"{prefix}after\n2\n"
        wait_until(lambda: "" if arrived(target, prefix) == wanted else "the mirror is not equal")
    finally:
        mirror.kill()
        mirror.communicate()


def arrived(side: Side, prefix: str) -> str:
    """What the mirror shows."""
    return side.store.etcdctl("get", prefix, "--prefix").stdout
