"""Our messages and services are etcd's: same names, numbers, types and signatures.

`cmd/descriptors` prints what the Go modules of etcd 3.7.3 declare; `ours()` reads the same facts
from the generated Python messages. Nothing may differ but what `NOT_SPOKEN` argues for.
"""

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor

from kvshim.pb.etcd import auth_pb2, election_pb2, kv_pb2, lock_pb2, rpc_pb2

HERE = Path(__file__).resolve().parent
PROGRAM = HERE.parent / "build" / "descriptors"

FILES = tuple(pb.DESCRIPTOR for pb in (kv_pb2, auth_pb2, rpc_pb2, lock_pb2, election_pb2))

# Declared in etcd's rpc.proto, but no RPC carries them: etcd puts them into its own log entries,
# and our log has commands of its own. They are absent here, so that reflection shows no message
# that nobody can send.
NOT_SPOKEN = {
    "etcdserverpb.LeaseCheckpoint": "only inside LeaseCheckpointRequest",
    "etcdserverpb.LeaseCheckpointRequest": "etcd's log entry for the remaining TTL of leases",
    "etcdserverpb.LeaseCheckpointResponse": "its result, which stays within the server",
    "etcdserverpb.DowngradeVersionTestRequest": "log entry of etcd's own downgrade tests",
}

TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}

Facts = dict[str, dict[str, Any]]
Interface = dict[str, Facts]


@functools.cache
def etcds() -> Interface:
    """etcd's interface from its Go modules, less what is not spoken."""
    interface: Interface = json.loads(run_program())
    for name in NOT_SPOKEN:
        del interface["messages"][name]
    return interface


@functools.cache
def run_program() -> str:
    assert shutil.which("go"), "no `go` in PATH: conformance needs Go 1.26 or newer"
    PROGRAM.parent.mkdir(exist_ok=True)
    build = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false"]
    subprocess.run(
        [*build, "-o", str(PROGRAM), "./cmd/descriptors"],
        cwd=HERE / "etcd",
        env={**os.environ, "CGO_ENABLED": "0"},
        timeout=900,
        check=True,
    )
    return subprocess.run([PROGRAM], capture_output=True, text=True, timeout=60, check=True).stdout


@functools.cache
def ours() -> Interface:
    """The same structure from the Python descriptors."""
    messages = {m.full_name: m for file in FILES for m in all_messages(file)}
    return {
        "messages": {
            name: {field.name: describe(field) for field in message.fields}
            for name, message in messages.items()
        },
        "enums": {
            enum.full_name: {value.name: value.number for value in enum.values}
            for enum in all_enums(messages.values())
        },
        "services": {
            service.full_name: {
                method.name: {
                    "input": method.input_type.full_name,
                    "output": method.output_type.full_name,
                    "client_streaming": method.client_streaming,
                    "server_streaming": method.server_streaming,
                }
                for method in service.methods
            }
            for file in FILES
            for service in file.services_by_name.values()
        },
    }


def all_messages(scope: FileDescriptor | Descriptor) -> Iterator[Descriptor]:
    inner = (
        scope.message_types_by_name.values()
        if isinstance(scope, FileDescriptor)
        else scope.nested_types
    )
    for message in inner:
        yield message
        yield from all_messages(message)


def all_enums(messages: Any) -> Iterator[EnumDescriptor]:
    for file in FILES:
        yield from file.enum_types_by_name.values()
    for message in messages:
        yield from message.enum_types


def describe(field: FieldDescriptor) -> dict[str, Any]:
    target = field.message_type or field.enum_type
    return {
        "number": field.number,
        "type": TYPES[field.type],
        "type_name": target.full_name if target else "",
        "repeated": field.is_repeated,
        "packed": field.is_packed,
        "presence": field.has_presence,
        "oneof": field.containing_oneof.name if field.containing_oneof else "",
        "json_name": field.json_name,
    }


def differences(kind: str) -> list[str]:
    """One line for each part that only one side has, or that the two describe differently."""
    mine, theirs = ours()[kind], etcds()[kind]
    lines = [f"{name}: only in ours" for name in mine.keys() - theirs.keys()]
    lines += [f"{name}: only in etcd's" for name in theirs.keys() - mine.keys()]
    for name in mine.keys() & theirs.keys():
        for part in mine[name].keys() | theirs[name].keys():
            a, b = mine[name].get(part), theirs[name].get(part)
            if a != b:
                lines.append(f"{name}.{part}: ours {a}, etcd's {b}")
    return sorted(lines)


@pytest.mark.parametrize("kind", ["messages", "enums", "services"])
def test_nothing_differs(kind: str):
    assert differences(kind) == []


def test_the_comparison_covers_all_five_packages():
    packages = {name.partition(".")[0] for name in etcds()["messages"]}
    assert packages == {"mvccpb", "authpb", "etcdserverpb", "v3lockpb", "v3electionpb"}
    assert set(etcds()["services"]) == {
        *(f"etcdserverpb.{name}" for name in ("KV", "Watch", "Lease", "Cluster")),
        *(f"etcdserverpb.{name}" for name in ("Maintenance", "Auth")),
        "v3lockpb.Lock",
        "v3electionpb.Election",
    }
    assert etcds()["services"]["etcdserverpb.KV"]["RangeStream"]["server_streaming"]


def test_what_we_leave_out_no_rpc_can_reach():
    interface = json.loads(run_program())
    reached: set[str] = set()
    ahead = {
        end
        for methods in interface["services"].values()
        for method in methods.values()
        for end in (method["input"], method["output"])
    }
    while ahead:
        name = ahead.pop()
        reached.add(name)
        fields = interface["messages"].get(name, {}).values()  # an enum has none
        ahead |= {f["type_name"] for f in fields if f["type_name"]} - reached
    assert "mvccpb.Event" in reached
    assert reached.isdisjoint(NOT_SPOKEN)
