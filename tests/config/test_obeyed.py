"""A flag that is called obeyed is read by the server: the tables promise nothing in vain."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from kvshim.config import ClientTls, Config, LogConfig, LogRotation
from kvshim.config.flag import Disposition
from kvshim.config.tables import BY_NAME

PACKAGE = Path(__file__).parents[2] / "kvshim"

# Fields that no room reads, and why that breaks no promise.
CHECKED_ONLY = {
    "initial_cluster": "checked against --name, and one member needs no more of it",
    "initial_cluster_state": "checked against the data directory",
    "feature_gates": "no gate changes what kvshim does; each that is turned is a warning",
    "socket_reuse_address": "set in any case",
}
# Fields kept for the flag of the same name, which says that it has no effect.
ACCEPTED = {
    "listen_client_http_urls": "listen-client-http-urls",
    "pre_vote": "pre-vote",
    "snapshot_count": "snapshot-count",
    "cors": "cors",
    "host_whitelist": "host-whitelist",
}

FIELDS = [
    (owner, field.name)
    for owner in (Config, ClientTls, LogConfig, LogRotation)
    for field in dataclasses.fields(owner)
]


def source_outside_config() -> str:
    files = [
        path
        for path in PACKAGE.rglob("*.py")
        if not {"config", "pb"} & set(path.relative_to(PACKAGE).parts)
    ]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@pytest.fixture(scope="module")
def source() -> str:
    return source_outside_config()


@pytest.mark.parametrize(("owner", "name"), FIELDS, ids=[name for _, name in FIELDS])
def test_a_field_is_read_by_the_server_or_its_flag_says_that_it_is_not(owner, name, source):
    is_read = re.search(rf"\.{name}\b", source) is not None
    if name in ACCEPTED:
        accepted = BY_NAME[ACCEPTED[name]].disposition is Disposition.ACCEPTED
        assert accepted is not is_read, f"--{ACCEPTED[name]} is read now: call it obeyed"
    elif name not in CHECKED_ONLY:
        assert is_read, f"{owner.__name__}.{name} is promised, and nobody reads it"
