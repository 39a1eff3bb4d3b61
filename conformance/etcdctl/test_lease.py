"""lease: grant, ask, keep alive, list, revoke, and what becomes of the keys."""

import re

import pytest

from conformance.etcdctl.pair import Pair

FORMATS = ["simple", "json", "fields"]


def remaining(pair: Pair, lease: str) -> list[int]:
    """Seconds left on each server."""
    texts = [out.decode() for _, out, _ in pair.raw("lease", "timetolive", lease)]
    return [int(re.findall(r"remaining\((-?\d+)s\)", text)[0]) for text in texts]


def test_a_life_of_a_lease(pair: Pair):
    pair.grant("L1", 300)
    pair.script("""
        put life/b 1 --lease={L1}
        put life/a 1 --lease={L1}
        put life/c 1 --lease={L1}
        get life/ --prefix -w fields
        get life/ --prefix -w json
        put life/c 2
        put life/b 2 --ignore-lease
        put life/b --ignore-value --lease={L1} --prev-kv
    """)
    for form in FORMATS:
        answers = pair.script(f"""
            lease timetolive {{L1}} -w {form}
            lease list -w {form}
            lease keep-alive --once {{L1}} -w {form}
        """)
        assert answers[0].stdout
    assert all(295 <= seconds <= 300 for seconds in remaining(pair, "{L1}"))
    before = pair.revision()
    assert pair.run("lease", "revoke", "{L1}").stdout == "lease <L1> revoked\n"
    assert pair.revision() == before + 1
    assert pair.run("get", "life/", "--prefix", "--keys-only").lines == ["life/c", ""]


def test_keys_of_a_lease_are_told(pair: Pair):
    pair.grant("KEYS", 300)
    pair.script("put told/a 1 --lease={KEYS}")
    text = pair.run("lease", "timetolive", "{KEYS}", "--keys").stdout
    assert text == (
        "lease <KEYS> granted with TTL(300s), remaining(<seconds>s), attached keys([told/a])\n"
    )
    for form in ("json", "fields"):
        pair.run("lease", "timetolive", "{KEYS}", "--keys", "-w", form)
    pair.script("""
        put told/c 1 --lease={KEYS}
        put told/b 1 --lease={KEYS}
    """)
    # etcd tells several keys in no order, another one each time.
    for _, out, _ in pair.raw("lease", "timetolive", "{KEYS}", "--keys", "-w", "fields"):
        told = [line for line in out.decode().splitlines() if line.startswith('"Key"')]
        assert sorted(told) == [f'"Key" : "told/{key}"' for key in "abc"]
    pair.run("lease", "revoke", "{KEYS}", "-w", "json")


def test_a_lease_without_keys_makes_no_revision(pair: Pair):
    before = pair.revision()
    pair.grant("BARE", 300)
    pair.script("""
        lease timetolive {BARE} --keys
        lease revoke {BARE} -w fields
    """)
    assert pair.revision() == before


def test_the_list_is_ordered_by_expiry(fresh: Pair):
    for name, ttl in (("L1", 900), ("L2", 300), ("L3", 600)):
        fresh.grant(name, ttl)
    assert fresh.run("lease", "list").lines == ["found 3 leases", "<L2>", "<L3>", "<L1>"]
    fresh.run("lease", "list", "-w", "json")
    fresh.run("lease", "list", "-w", "fields")


@pytest.mark.parametrize(("ttl", "granted"), [(0, 2), (-5, 2), (1, 2), (9 * 10**9, 9 * 10**9)])
def test_every_ttl_that_is_granted(pair: Pair, ttl: int, granted: int):
    pair.grant("TTL", ttl, granted=granted)
    pair.run("lease", "revoke", "{TTL}")


def test_keeping_alive_until_it_is_revoked(pair: Pair):
    pair.grant("SHORT", 2)
    with pair.running("lease", "keep-alive", "{SHORT}") as alive:
        alive.wait_for("keepalived", times=4)  # one at once, then one each third of the time
        assert all(seconds >= 0 for seconds in remaining(pair, "{SHORT}"))
        pair.run("lease", "revoke", "{SHORT}")
        answer = alive.finish()
    assert set(answer.lines[:-1]) == {"lease <SHORT> keepalived with TTL(2)"}
    assert answer.lines[-1] == "lease <SHORT> expired or revoked."


def test_keys_expire_and_a_watch_sees_it(pair: Pair):
    pair.grant("SHORT", 2)
    pair.script("""
        put expire/b 1 --lease={SHORT}
        put expire/a 1 --lease={SHORT}
        put expire/kept 1
    """)
    revision = pair.revision()
    with pair.running("watch", "expire/", "--prefix", "--prev-kv", "-w", "fields") as watch:
        watch.wait_for("DELETE", times=2)
        answer = watch.interrupt()
    assert answer.stdout.count(f'"ModRevision" : {revision + 1}\n') == 2
    assert pair.run("get", "expire/", "--prefix", "--keys-only").lines == ["expire/kept", ""]
    pair.script("""
        lease timetolive {SHORT}
        lease timetolive {SHORT} --keys -w fields
        ! lease revoke {SHORT}
        ! lease keep-alive --once {SHORT}
        lease keep-alive {SHORT}
        ! put expire/a 2 --lease={SHORT}
    """)


def test_leases_that_are_not_there(pair: Pair):
    answers = pair.script("""
        lease timetolive 1234
        lease timetolive 1234 --keys
        ! lease revoke 1234
        ! lease keep-alive --once 1234
        lease keep-alive 1234
        ! lease grant 9000000001
        ! lease grant many
        ! lease revoke nothex
        ! put key value --lease=zz
    """)
    said = [answer.stdout + answer.stderr for answer in answers]
    assert "already expired" in said[0]
    assert "requested lease not found" in said[2]
    assert "too large lease TTL" in said[5]
