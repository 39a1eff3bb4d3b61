"""The committed message code is what `protos/` generates, and says so in one sentence if not.

Runs `scripts/proto.py` itself, as `make proto` does. grpcio-tools is a development dependency:
without it these tests fail rather than skip.
"""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

from kvshim.pb.etcd import election_pb2, lock_pb2, rpc_pb2

ROOT = Path(__file__).resolve().parents[2]


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / "proto.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A tree of our own with everything the generator reads and writes."""
    for folder in ("protos", "scripts", "kvshim/pb", "raft/pb"):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def test_committed_code_is_what_the_sources_generate():
    result = check(ROOT)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_changed_source_is_named_by_the_file_it_made_stale(copy: Path):
    source = copy / "protos/etcd/kv.proto"
    source.write_text(source.read_text().replace("int64 lease = 6;", "int64 lease = 7;"))

    result = check(copy)

    assert result.returncode == 1
    assert result.stderr == (
        "kvshim/pb/etcd/kv_pb2.py differs from what protos/ generates: run `make proto`.\n"
    )


def test_a_missing_file_and_an_orphan_are_named(copy: Path):
    generated = copy / "kvshim/pb/etcd/lock_pb2.pyi"
    generated.rename(generated.with_name("unlock_pb2.pyi"))

    missing = check(copy)
    shutil.copy(generated.with_name("unlock_pb2.pyi"), generated)
    orphan = check(copy)

    assert missing.returncode == orphan.returncode == 1
    assert missing.stderr.startswith("kvshim/pb/etcd/lock_pb2.pyi is missing")
    assert orphan.stderr.startswith("kvshim/pb/etcd/unlock_pb2.pyi has no source")


def test_a_source_that_does_not_compile_is_no_stale_file(copy: Path):
    with (copy / "protos/etcd/kv.proto").open("a") as source:
        source.write("message {\n")

    result = check(copy)

    assert result.returncode == 1
    assert "etcd/kv.proto:" in result.stderr
    assert "make proto" not in result.stderr


def test_without_check_everything_is_written_anew(copy: Path):
    shutil.rmtree(copy / "kvshim/pb")

    subprocess.run([sys.executable, str(copy / "scripts/proto.py")], timeout=60, check=True)

    assert check(copy).returncode == 0
    assert (copy / "kvshim/pb/etcd/rpc_pb2.py").stat().st_size > 0


def test_reflection_finds_every_service_and_the_files_behind_it():
    """The default pool is what gRPC reflection serves: each file with all that it imports."""
    pool = descriptor_pool.Default()
    for module in (rpc_pb2, lock_pb2, election_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            found = pool.FindFileContainingSymbol(service.full_name)
            assert found.name == module.DESCRIPTOR.name
            for dependency in found.dependencies:
                assert pool.FindFileByName(dependency.name).serialized_pb


def test_messages_know_the_module_they_live_in():
    message = rpc_pb2.RangeRequest(key=b"/registry/", limit=500)
    assert type(message).__module__ == "kvshim.pb.etcd.rpc_pb2"
    assert pickle.loads(pickle.dumps(message)) == message
