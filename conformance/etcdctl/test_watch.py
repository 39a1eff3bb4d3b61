"""watch: history and news, ranges, previous values, progress, and typed commands."""

import pytest

from conformance.etcdctl.conftest import MakePair
from conformance.etcdctl.pair import Pair

HISTORY = """
    put {p}/a 1
    put {p}/b 1
    put {p}/a 2
    del {p}/a
    put {p}/c 1
    put {p}/a 3
    put {p}/end 1
"""


def history(pair: Pair, prefix: str) -> int:
    """Seven changes; returns the revision of the first."""
    first = pair.revision() + 1
    pair.script(HISTORY.format(p=prefix))
    return first


@pytest.mark.parametrize("form", ["simple", "json", "fields"])
def test_from_an_old_revision(pair: Pair, form: str):
    at = f"old-{form}"
    first = history(pair, at)
    shown = f"{at}/end" if form != "json" else '"mod_revision":' + str(first + 6)
    for flags in (["--prefix"], ["--prefix", "--prev-kv"]):
        with pair.running("watch", f"{at}/", *flags, f"--rev={first}", "-w", form) as watch:
            watch.wait_for(shown)
            answer = watch.interrupt()
            assert answer.stdout.count("PUT") == 6 or form == "json"
    for flags in ([f"{at}/a", f"{at}/c"], [f"{at}/a", "\x7f"], [f"{at}/a"]):
        with pair.running("watch", *flags, f"--rev={first + 1}", "-w", form) as watch:
            watch.wait_for(shown if "\x7f" in flags else f'"{at}/a"' if form == "fields" else "\n")
            watch.interrupt()


def test_the_previous_value_is_the_one_before(pair: Pair):
    first = history(pair, "previous")
    with pair.running("watch", "previous/a", "--prev-kv", f"--rev={first}") as watch:
        watch.wait_for("PUT", times=3)
        assert watch.interrupt().lines == [
            *("PUT", "previous/a", "1"),
            *("PUT", "previous/a", "1", "previous/a", "2"),
            *("DELETE", "previous/a", "2", "previous/a", ""),
            *("PUT", "previous/a", "3"),
        ]


def test_news_as_they_happen(pair: Pair):
    with pair.running("watch", "news/", "--prefix", "--prev-kv") as watch:
        pair.wait_for_watchers(1)
        history(pair, "news")
        pair.run("put", "newt", "is not watched")
        pair.run("txn", stdin="\nput news/x 1\nput news/y 2\ndel news/b\n\n\n")
        pair.run("put", "news/last", "1")
        watch.wait_for("news/last")
        answer = watch.interrupt()
    assert answer.stdout.count("PUT") == 9
    assert answer.stdout.count("DELETE") == 2
    assert "newt" not in answer.stdout


def test_what_starts_in_the_future_shows_nothing_earlier(pair: Pair):
    start = pair.revision() + 3
    with pair.running("watch", "future", f"--rev={start}") as watch:
        pair.wait_for_watchers(1)
        pair.script("""
            put future 1
            put future 2
            put future 3
            put future 4
        """)
        watch.wait_for("4\n")
        assert watch.interrupt().lines == ["PUT", "future", "3", "PUT", "future", "4"]


def test_a_command_for_every_event(pair: Pair):
    first = pair.revision() + 1
    pair.script("""
        put exec/a one
        put exec/b 'two words'
        del exec/a
    """)
    shell = ["sh", "-c", "env | grep ^ETCD_WATCH | sort; echo done"]
    with pair.running("watch", "exec/", "--prefix", f"--rev={first}", "--", *shell) as watch:
        watch.wait_for("done", times=3)
        answer = watch.interrupt()
    assert 'ETCD_WATCH_KEY="exec/b"' in answer.lines
    assert 'ETCD_WATCH_EVENT_TYPE="DELETE"' in answer.lines
    assert f"ETCD_WATCH_REVISION={first + 2}" in answer.lines


def test_typed_commands(pair: Pair):
    first = history(pair, "typed")
    with pair.running("watch", "--interactive") as watch:
        watch.send(f"watch typed/a --rev={first}")
        watch.wait_for("PUT", times=3)
        watch.send(f"watch --prefix typed/ --rev={first + 4} --prev-kv")
        watch.wait_for("typed/end")
        # A key of its own: etcdctl's watches print at the same time, each line by itself.
        watch.send("watch other")
        watch.send("nonsense")
        pair.wait_for_watchers(3)
        pair.run("put", "other", "1")
        watch.wait_for("other")
        answer = watch.interrupt()
    assert "Invalid command nonsense" in answer.stderr


def test_progress_on_request(pair: Pair):
    first = history(pair, "request")
    with pair.running("watch", "-i") as watch:
        watch.send(f"watch request/c --rev={first}")
        watch.wait_for("PUT")
        pair.wait_for_watchers(1)
        pair.run("put", "elsewhere", "1")
        watch.send("progress")
        watch.wait_for(f"progress notify: {first + 7}")
        pair.run("put", "request/c", "2")
        watch.wait_for("PUT", times=2)
        watch.send("progress")
        watch.wait_for(f"progress notify: {first + 8}")
        assert watch.interrupt().stdout.count("progress notify") == 2


def test_progress_at_intervals(make_pair: MakePair):
    pair = make_pair("--watch-progress-notify-interval=200ms")
    pair.run("put", "a", "1")
    with pair.running("watch", "a", "--rev=1", "--progress-notify") as watch:
        watch.wait_for("progress notify: 2", times=2)
        pair.run("put", "b", "1")
        watch.wait_for("progress notify: 3")
        for process in watch.processes:
            process.kill()  # how often it came until now is a matter of time
    assert pair.revision() == 3


def test_a_compacted_start(pair: Pair):
    first = history(pair, "compacted")
    pair.run("compact", str(first + 3))
    compacted = ("compacted/", "--prefix")
    for form in ("simple", "json", "fields"):
        with pair.running("watch", *compacted, f"--rev={first}", "-w", form) as watch:
            answer = watch.finish()
            assert answer.code != 0
            assert "required revision has been compacted" in answer.stderr
    # At the compacted revision itself, a delete, nothing is lost.
    with pair.running("watch", *compacted, f"--rev={first + 3}", "--prev-kv") as watch:
        watch.wait_for("compacted/end")
        assert watch.interrupt().lines[:3] == ["DELETE", "compacted/a", ""]


def test_what_etcdctl_itself_refuses(pair: Pair):
    pair.script("""
        ! watch
        ! watch a b --prefix
        ! watch a --
    """)
