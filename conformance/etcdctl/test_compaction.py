"""compaction, and what is left after it."""

from conformance.etcdctl.pair import Pair


def test_compaction(fresh: Pair):
    fresh.script("""
        put a 1
        put a 2
        put b 1
        del b
        put a 3
    """)
    answers = fresh.script("""
        compaction 4
        ! compaction 4
        ! compaction 3
        ! compaction 100
        ! get a --rev=3
        get a --rev=4
        get b --rev=4 -w fields
        get b --rev=5 -w fields
        get a --rev=5
        get a
        get '' --prefix -w json
        compact 6
        ! get a --rev=5
        get a --rev=6
    """)
    assert answers[0].stdout == "compacted revision 4\n"
    said = [answer.stderr.splitlines()[-1] for answer in answers[1:5]]
    assert said == [
        "Error: etcdserver: mvcc: required revision has been compacted",
        "Error: etcdserver: mvcc: required revision has been compacted",
        "Error: etcdserver: mvcc: required revision is a future revision",
        "Error: etcdserver: mvcc: required revision has been compacted",
    ]
    assert answers[5].lines == ["a", "2"]
    for revision in (6, 0):
        fresh.run("endpoint", "hashkv", f"--rev={revision}")


def test_physical_compaction(fresh: Pair):
    for number in range(20):
        fresh.run("put", f"key-{number % 3}", str(number))
    fresh.run("del", "key-1")
    fresh.script("""
        compaction 15 --physical
        ! compaction 15 --physical
        endpoint hashkv
        endpoint hashkv --rev=18
        compaction 22 --physical
        endpoint hashkv
        get '' --prefix -w fields
        ! get '' --prefix --rev=21
    """)


def test_an_empty_store(fresh: Pair):
    fresh.script("""
        compaction 0
        ! compaction 0
        ! compaction 5
        compaction 1
        ! compaction 1
        ! compaction nonsense
        ! compaction
        get '' --prefix -w fields
    """)
