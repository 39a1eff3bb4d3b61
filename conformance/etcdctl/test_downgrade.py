"""downgrade: etcd's answers, but for the one target that etcd takes and kvshim does not."""

from conformance.etcdctl.pair import Pair


def test_downgrade(pair: Pair):
    pair.script("""
        ! downgrade validate 3.4.0
        ! downgrade validate 3.9
        ! downgrade validate three
        ! downgrade validate
        ! downgrade enable 3.4.0
        ! downgrade enable v3.6.0
        downgrade cancel
    """)


def test_there_is_no_version_to_go_back_to(pair: Pair):
    """docs/upgrading.md; etcd 3.7 would validate 3.6.0 and begin to go back to it."""
    for action in ("validate", "enable"):
        for version in ("3.6.0", "3.5"):
            done = pair.kvshim.store.etcdctl("downgrade", action, version, check=False)
            assert done.returncode != 0
            assert done.stderr.endswith("invalid downgrade target version\n"), done.stderr
