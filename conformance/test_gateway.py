"""Plain HTTP on the client port: the same requests to etcd and to kvshim, the answers compared.

Compared are status, content type and body, as values and not as text: etcd's JSON has spaces that
differ from build to build. Numbers that belong to one server, and the words with which a JSON
library refuses a text, are left out.
"""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.servers import Datastore, Kind

FOREIGN = {"cluster_id", "member_id", "raft_term", "leader", "raftIndex", "raftAppliedIndex"}
FOREIGN |= {"raftTerm", "dbSize", "dbSizeInUse", "hash", "peerURLs", "clientURLs"}

FOO = '{"key":"Zm9v"}'
STORY: list[tuple[str, str, str]] = [
    ("POST", "/v3/kv/put", '{"key":"Zm9v","value":"YmFy"}'),
    ("POST", "/v3/kv/put", '{"key":"Zm9v","value":"YmF6","prev_kv":true}'),
    ("POST", "/v3/kv/put", '{"key":"Zm9v","value":"YmF6","prevKv":true,"lease":"5"}'),
    ("POST", "/v3/kv/range", FOO),
    ("POST", "/v3beta/kv/range", FOO),
    ("POST", "/v3alpha/kv/range", FOO),
    ("POST", "/v3/kv/range?key=YQ==", FOO),
    ("POST", "/v3/kv/range", '{"key":"AA==","range_end":"AA==","limit":1}'),
    ("POST", "/v3/kv/range", '{"key":"AA==","rangeEnd":"AA==","keysOnly":true}'),
    ("POST", "/v3/kv/range", '{"key":"Zm9v","count_only":true}'),
    (
        "POST",
        "/v3/kv/range",
        '{"key":"Zm9v","countOnly":true,"sortOrder":"ASCEND","sort_target":1}',
    ),
    ("POST", "/v3/kv/range", '{"key":"Zm9v","bogus":{"a":[1]}}'),
    ("POST", "/v3/kv/range", '{"key":"Zm9"}'),
    ("POST", "/v3/kv/range", '{"key":"-_8="}'),
    ("POST", "/v3/kv/range", '{"key":"a"}'),
    ("POST", "/v3/kv/range", '{"key":"YQ="}'),
    ("POST", "/v3/kv/range", '{"key":"@@@"}'),
    ("POST", "/v3/kv/range", '{"key":5}'),
    ("POST", "/v3/kv/range", '{"key":"Y\\u0051=="}'),
    ("POST", "/v3/kv/range", '{"key":null,"limit":1.0}'),
    ("POST", "/v3/kv/range", '{"key":"YQ","limit":1.5}'),
    ("POST", "/v3/kv/range", '{"key":"YQ","limit":"x"}'),
    ("POST", "/v3/kv/range", '{"key":"YQ","limit":99999999999999999999}'),
    ("POST", "/v3/kv/range", '{"key":"YQ","serializable":"true"}'),
    ("POST", "/v3/kv/range", '{"key":"YQ","serializable":1}'),
    ("POST", "/v3/kv/range", '{"key":"YQ==","key":"YQ=="}'),
    ("POST", "/v3/kv/range", '{"key":"Zm9v","sort_order":"NOPE"}'),
    ("POST", "/v3/kv/range", '{"key":"Zm9v","sort_order":9}'),
    ("POST", "/v3/kv/range", '{"key":"Zm9v","revision":"100"}'),
    ("POST", "/v3/kv/range", "{"),
    ("POST", "/v3/kv/range", ""),
    ("POST", "/v3/kv/range", "{}"),
    ("POST", "/v3/kv/range", "[]"),
    ("POST", "/v3/kv/range", "null"),
    ("POST", "/v3/kv/range", f"  {FOO} trailing"),
    ("GET", "/v3/kv/range", ""),
    ("PUT", "/v3/kv/range", FOO),
    ("DELETE", "/v3/kv/range", ""),
    ("OPTIONS", "/v3/kv/range", ""),
    ("POST", "/v3/kv/range/", FOO),
    ("POST", "/v3/kv/nosuch", "{}"),
    ("POST", "/v3/kv/rangestream", FOO),
    ("GET", "/v3/", ""),
    (
        "POST",
        "/v3/kv/txn",
        '{"compare":[{"target":"VERSION","key":"Zm9v","version":"2","result":"EQUAL"}],'
        '"success":[{"request_range":{"key":"Zm9v"}},'
        '{"requestPut":{"key":"YQ==","value":"Yg==","prev_kv":true}}],"failure":[]}',
    ),
    ("POST", "/v3/kv/txn", '{"compare":[{"target":"CREATE","key":"Zm9v","createRevision":0}]}'),
    (
        "POST",
        "/v3/kv/txn",
        '{"success":[{"request_put":{"key":"YQ=="},"request_range":{"key":"YQ=="}}]}',
    ),
    ("POST", "/v3/kv/deleterange", '{"key":"YQ==","prev_kv":true}'),
    ("POST", "/v3/kv/compaction", '{"revision":"2"}'),
    ("POST", "/v3/kv/compaction", '{"revision":"2"}'),
    ("POST", "/v3/kv/compaction", '{"revision":"1000"}'),
    ("POST", "/v3/lease/grant", '{"TTL":"600","ID":"77"}'),
    ("POST", "/v3/lease/grant", '{"TTL":600,"ID":77}'),
    ("POST", "/v3/lease/leases", "{}"),
    ("POST", "/v3/kv/lease/leases", "{}"),
    ("POST", "/v3/lease/keepalive", '{"ID":"77"}'),
    ("POST", "/v3/lease/keepalive", '{"ID":"77"}{"ID":78}'),
    ("POST", "/v3/lease/keepalive", '{"ID":"77"}{bad'),
    ("POST", "/v3/lease/keepalive", ""),
    ("POST", "/v3/lease/revoke", '{"ID":"77"}'),
    ("POST", "/v3/kv/lease/revoke", '{"ID":"77"}'),
    ("POST", "/v3/lease/timetolive", '{"ID":"77","keys":true}'),
    ("POST", "/v3/maintenance/status", "{}"),
    ("POST", "/v3/maintenance/alarm", '{"action":"GET"}'),
    ("POST", "/v3/maintenance/hashkv", "{}"),
    ("POST", "/v3/maintenance/defragment", "{}"),
    ("POST", "/v3/maintenance/transfer-leadership", "{}"),
    ("POST", "/v3/cluster/member/list", "{}"),
    ("POST", "/v3/cluster/member/add", "{}"),
    ("POST", "/v3/cluster/member/remove", '{"ID":"1"}'),
    ("POST", "/v3/cluster/member/promote", '{"ID":"1"}'),
    ("GET", "/health", ""),
    ("GET", "/livez", ""),
    ("GET", "/readyz", ""),
    ("GET", "/readyz?verbose", ""),
    ("GET", "/version", ""),
    ("OPTIONS", "/health", ""),
    ("POST", "/health", "x"),
    ("GET", "/nosuch", ""),
    ("GET", "/", ""),
    ("GET", "/v2/keys", ""),
]
AUTH_STORY: list[tuple[str, str]] = [
    ("status", "{}"),
    ("enable", "{}"),
    ("disable", "{}"),
    ("authenticate", '{"name":"ann","password":"a"}'),
    ("user/add", '{"name":"ann","password":"a"}'),
    ("user/add", '{"name":"ann","password":"a"}'),
    ("user/add", '{"name":"cert","options":{"no_password":true}}'),
    ("user/add", "{}"),
    ("role/add", '{"name":"reader"}'),
    ("role/add", "{}"),
    ("role/grant", '{"name":"reader","perm":{"permType":"READ","key":"YQ==","range_end":"Yg=="}}'),
    ("role/grant", '{"name":"reader","perm":{"permType":2,"key":"AA==","rangeEnd":"AA=="}}'),
    ("role/grant", '{"name":"reader"}'),
    ("role/get", '{"role":"reader"}'),
    ("role/get", '{"role":"nothing"}'),
    ("role/list", "{}"),
    ("user/grant", '{"user":"ann","role":"reader"}'),
    ("user/grant", '{"user":"ann","role":"nothing"}'),
    ("user/get", '{"name":"ann"}'),
    ("user/list", "{}"),
    ("user/changepw", '{"name":"ann","password":"b"}'),
    ("user/revoke", '{"name":"ann","role":"reader"}'),
    ("user/revoke", '{"name":"ann","role":"reader"}'),
    ("role/revoke", '{"role":"reader","key":"YQ==","range_end":"Yg=="}'),
    ("role/revoke", '{"role":"reader","key":"YQ=="}'),
    ("role/delete", '{"role":"reader"}'),
    ("user/delete", '{"name":"ann"}'),
    ("user/delete", '{"name":"ann"}'),
    ("status", "{}"),
]
LEADER = '"leader":{"name":"Y2hhaXI=","key":"Y2hhaXIvNjM=","rev":"%d","lease":"99"}'
RECIPES: list[tuple[str, str]] = [
    ("lease/grant", '{"TTL":"600","ID":"99"}'),
    ("lock/lock", '{"name":"bXV0ZXg=","lease":"99"}'),
    ("lock/lock", '{"name":"bXV0ZXg=","lease":"100"}'),
    ("kv/range", '{"key":"bXV0ZXgv","range_end":"bXV0ZXgw"}'),
    ("lock/unlock", '{"key":"bXV0ZXgvNjM="}'),
    ("lock/unlock", "{}"),
    ("election/leader", '{"name":"Y2hhaXI="}'),
    ("election/campaign", '{"name":"Y2hhaXI=","lease":"99","value":"YQ=="}'),
    ("election/campaign", '{"name":"Y2hhaXI=","lease":"99","value":"Yg=="}'),
    ("election/leader", '{"name":"Y2hhaXI="}'),
    ("election/proclaim", f'{{{LEADER % 1},"value":"Yw=="}}'),
    ("election/proclaim", "{}"),
    ("election/resign", f"{{{LEADER % 1}}}"),
    ("election/resign", "{}"),
    ("kv/deleterange", '{"key":"Y2hhaXIv","range_end":"Y2hhaXIw"}'),
    ("lease/revoke", '{"ID":"99"}'),
    ("maintenance/downgrade", '{"action":"VALIDATE","version":"three"}'),
    ("maintenance/downgrade", '{"action":"ENABLE","version":"3.4.0"}'),
    ("maintenance/downgrade", '{"action":"CANCEL"}'),
]
WATCHES = [
    ('{"create_request":{"key":"Zm9v","start_revision":"3"}}', 2),
    ('{"create_request":{"key":"Zm9v","start_revision":"1"}}', 2),
    ('{"createRequest":{"key":"Zm9v"}}{"progressRequest":{}}', 2),
    ('{"create_request":{"key":"Zm9v","watch_id":"7"}}{"cancel_request":{"watch_id":7}}', 2),
    ('{"create_request":{"key":"Zm9v"}}{"bad', 1),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Datastore, Datastore]]:
    """etcd and kvshim, both empty at first and told the same from then on."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    with (
        Datastore(Kind.ETCD, folder / "etcd") as etcd,
        Datastore(Kind.KVSHIM, folder / "kvshim") as kvshim,
    ):
        yield etcd, kvshim


def ask(store: Datastore, verb: str, path: str, body: str, **headers: str) -> tuple[Any, ...]:
    """Status, content type, what allows a browser to read it, and the body as values."""
    connection = http.client.HTTPConnection(store.endpoint, timeout=10)
    try:
        connection.request(verb, path, body or None, headers)
        response = connection.getresponse()
        text = response.read().decode()
        shown = response.headers
        kept = (shown["Content-Type"], shown["Access-Control-Allow-Origin"], shown["Allow"])
        return response.status, *kept, values(text)
    finally:
        connection.close()


def values(text: str) -> Any:
    """JSON, one value or many lines, without what differs between servers; else lines of text,
    sorted, since etcd runs its health checks in any order."""
    try:
        return [normal(json.loads(line)) for line in text.splitlines()]
    except ValueError:
        return sorted(text.splitlines())


def normal(value: Any) -> Any:
    match value:
        case {"peerURLs": _}:
            return {name: item for name, item in value.items() if name not in {*FOREIGN, "ID"}}
        case dict():
            if str(value.get("message", "")).startswith(("proto:", "unexpected EOF")):
                return {"code": value["code"]}
            return {name: normal(item) for name, item in value.items() if name not in FOREIGN}
        case list():
            return [normal(item) for item in value]
    return value


def test_every_request_of_the_story_gets_etcds_answer(pair: tuple[Datastore, Datastore]):
    etcd, kvshim = pair
    differences = []
    for verb, path, body in STORY:
        expected, answered = ask(etcd, verb, path, body), ask(kvshim, verb, path, body)
        if expected != answered:
            differences.append(f"{verb} {path} {body}\n  etcd   {expected}\n  kvshim {answered}")
    assert not differences, "\n".join(differences)


def test_users_and_roles_get_etcds_answers(pair: tuple[Datastore, Datastore]):
    etcd, kvshim = pair
    differences = []
    for path, body in AUTH_STORY:
        expected, answered = (
            ask(store, "POST", f"/v3/auth/{path}", body) for store in (etcd, kvshim)
        )
        if expected != answered:
            differences.append(f"{path} {body}\n  etcd   {expected}\n  kvshim {answered}")
    assert not differences, "\n".join(differences)


def test_locks_elections_and_downgrades_get_etcds_answers(pair: tuple[Datastore, Datastore]):
    differences = []
    for path, body in RECIPES:
        expected, answered = (ask(store, "POST", f"/v3/{path}", body) for store in pair)
        if expected != answered:
            differences.append(f"{path} {body}\n  etcd   {expected}\n  kvshim {answered}")
    assert not differences, "\n".join(differences)


def test_a_client_that_leaves_waits_for_no_lock(pair: tuple[Datastore, Datastore]):
    for store in pair:
        ask(store, "POST", "/v3/kv/put", '{"key":"bC9oZWxk"}')
        connection = http.client.HTTPConnection(store.endpoint, timeout=10)
        connection.request("POST", "/v3/lock/lock", '{"name":"bA=="}')
        wait_for_queue(store, 2)
        connection.close()
        wait_for_queue(store, 1)


def wait_for_queue(store: Datastore, count: int) -> None:
    deadline = time.monotonic() + 10
    body = '{"key":"bC8=","range_end":"bDA="}'
    while int(ask(store, "POST", "/v3/kv/range", body)[-1][0]["count"]) != count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def watch_lines(store: Datastore, body: str, count: int) -> list[Any]:
    """The first lines of a watch whose request goes on, as a client's does."""
    connection = http.client.HTTPConnection(store.endpoint, timeout=10)
    try:
        connection.request("POST", "/v3/watch", body)
        response = connection.getresponse()
        assert response.status == 200
        lines = [normal(json.loads(response.readline())) for _ in range(count)]
        # etcd's answer to a progress request may overtake the watch's creation.
        return sorted(lines, key=str) if "progress" in body else lines
    finally:
        connection.close()


def test_watches_stream_the_lines_that_etcd_streams(pair: tuple[Datastore, Datastore]):
    etcd, kvshim = pair
    for body, count in WATCHES:
        assert watch_lines(kvshim, body, count) == watch_lines(etcd, body, count), body


def test_a_timeout_ends_a_stream_by_an_error_line(pair: tuple[Datastore, Datastore]):
    body = '{"create_request":{"key":"Zm9v"}}'
    answers = [ask(store, "POST", "/v3/watch", body, **{"Grpc-Timeout": "500m"}) for store in pair]
    for *head, (created, last) in answers:
        assert tuple(head) == answers[0][:-1]
        assert created == answers[0][-1][0]
        # In etcd the watch may notice before the stream does, and say so in its own words.
        assert last["error"]["code"] in (1, 4)
    assert answers[1][-1][1] == {"error": {"code": 4, "message": "context deadline exceeded"}}


def test_a_malformed_timeout_is_refused_alike(pair: tuple[Datastore, Datastore]):
    headers = {"Grpc-Timeout": "bad"}
    expected, answered = (ask(store, "POST", "/v3/kv/range", FOO, **headers) for store in pair)
    assert expected == answered


def test_requests_too_large_are_refused_alike(pair: tuple[Datastore, Datastore]):
    for size in (1_200_000 * 2, 3_000_000 // 3 * 4):
        body = json.dumps({"key": "YmlnCg==", "value": "eHh4" * (size // 4)})
        expected, answered = (ask(store, "POST", "/v3/kv/put", body) for store in pair)
        assert expected == answered
