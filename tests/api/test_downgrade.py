"""Downgrade: what is no version, what is no target, and that there is nothing to cancel."""

import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api.errors import ApiError, Code, refused

WRONG_FORMAT = ApiError(Code.INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format")
INVALID_TARGET = ApiError(Code.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version")
UNKNOWN_ACTION = ApiError(Code.UNKNOWN, "etcdserver: unknown method")
VALIDATE, ENABLE, CANCEL = (
    pb.DowngradeRequest.DowngradeAction.Value(name) for name in ("VALIDATE", "ENABLE", "CANCEL")
)


def downgrade(client, action, version=""):
    request = pb.DowngradeRequest(action=action, version=version)
    return client.call("etcdserverpb.Maintenance/Downgrade", request, pb.DowngradeResponse)


@pytest.mark.parametrize("action", [VALIDATE, ENABLE])
@pytest.mark.parametrize(
    "version",
    [
        "",
        "3",
        "v3.5",
        "3.x",
        "3.5.",
        "3.5.0.1",
        "3.5-a",
        "3.5.0-a..b",
        "3.5.0+_",
        "9" * 19,
        f"{2**63}.0",
    ],
)
def test_what_is_no_version_is_refused(etcd, action, version):
    with refused(WRONG_FORMAT):
        downgrade(etcd, action, version)


@pytest.mark.parametrize("action", [VALIDATE, ENABLE])
@pytest.mark.parametrize(
    "version", ["3.4", "3.4.9", "3.4.0-", "3.4.0-a.b+c", "03.4", "3.8", "0.0.0", f"{2**63 - 1}.0"]
)
def test_only_the_version_before_could_be_a_target(etcd, action, version):
    with refused(INVALID_TARGET):
        downgrade(etcd, action, version)


@pytest.mark.kvshim_only
@pytest.mark.parametrize("action", [VALIDATE, ENABLE])
def test_kvshim_goes_back_to_no_version(etcd, action):
    for minor in range(10):
        with refused(INVALID_TARGET):
            downgrade(etcd, action, f"3.{minor}.0")


def test_there_is_nothing_to_cancel(etcd):
    answer = downgrade(etcd, CANCEL, "whatever")
    status = etcd.status()
    assert answer.header == status.header
    assert f"{answer.version}.0" == status.storageVersion
    assert status.downgradeInfo == pb.DowngradeInfo(enabled=False)


def test_an_unknown_action_is_refused(etcd):
    with refused(UNKNOWN_ACTION):
        downgrade(etcd, 7, "3.4")
