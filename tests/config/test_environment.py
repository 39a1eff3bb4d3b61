"""`ETCD_*` variables stand in for flags that are not given."""

from __future__ import annotations

import pytest

from kvshim.config import Notice, NoticeKind
from kvshim.config.tables import ETCD_FLAGS, env_name
from tests.config.helpers import config_of, loaded, refusal


def test_a_variable_stands_in_for_its_flag():
    outcome = loaded([], {"ETCD_NAME": "a", "ETCD_QUOTA_BACKEND_BYTES": "1000", "HOME": "/root"})
    assert outcome.config.name == "a"
    assert outcome.config.quota_backend_bytes == 1000
    assert outcome.notices == ()


def test_every_etcd_flag_has_its_variable():
    assert env_name(next(f for f in ETCD_FLAGS if f.name == "listen-client-urls")) == (
        "ETCD_LISTEN_CLIENT_URLS"
    )
    assert len({env_name(flag) for flag in ETCD_FLAGS}) == len(ETCD_FLAGS)


def test_our_own_flags_have_our_own_prefix():
    assert config_of([], {"KVSHIM_WAL_BYTES_MAX": "2097152"}).wal_bytes_max == 2097152
    outcome = loaded([], {"ETCD_WAL_BYTES_MAX": "2097152"})
    assert outcome.config.wal_bytes_max != 2097152
    assert [notice.name for notice in outcome.notices] == ["ETCD_WAL_BYTES_MAX"]


def test_an_empty_variable_is_no_variable():
    outcome = loaded([], {"ETCD_NAME": "", "ETCD_DISCOVERY": "", "ETCD_HEARTBEAT_INTERVAL": ""})
    assert outcome.config.name == "default"
    assert outcome.notices == ()


def test_a_variable_beside_its_own_flag_is_an_error_as_in_etcd():
    error = refusal(["--name=a"], {"ETCD_NAME": "b"})
    assert error.exit_code == 1
    assert str(error) == (
        "ETCD_NAME is set and --name is given: unset one of them, since only one can count"
    )


def test_a_wrong_value_names_the_variable():
    assert str(refusal([], {"ETCD_HEARTBEAT_INTERVAL": "soon"})) == (
        'invalid value "soon" for ETCD_HEARTBEAT_INTERVAL: expected a whole number'
    )


@pytest.mark.parametrize("variable", ["ETCD_FOO", "ETCD_SERVICE_HOST", "KVSHIM_FOO"])
def test_an_unknown_variable_is_one_warning(variable):
    assert loaded([], {variable: "x"}).notices == (
        Notice(
            NoticeKind.UNRECOGNIZED_VARIABLE,
            variable,
            "no flag has this name, so it is ignored",
        ),
    )


def test_the_version_cannot_be_set():
    [notice] = loaded([], {"ETCD_VERSION": "true", "ETCD_UNSUPPORTED_ARCH": "386"}).notices
    assert notice.name == "ETCD_VERSION"


def test_a_refused_flag_is_refused_from_the_environment_too():
    assert str(refusal([], {"ETCD_DISCOVERY_SRV": "example.com"})).startswith(
        "ETCD_DISCOVERY_SRV is refused: "
    )


def test_listening_by_variable_needs_an_advertised_address_too():
    error = refusal([], {"ETCD_LISTEN_CLIENT_URLS": "http://0.0.0.0:1"})
    assert "--advertise-client-urls is required" in str(error)
