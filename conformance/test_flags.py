"""kvshim knows every flag of etcd 3.7, with its kind and default, and stops where etcd stops.

`cmd/flags` prints what etcd's `embed` package defines; the few flags of `etcdmain` are tried on the
real program, as is every name of ours, so that our table holds no invention.
"""

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conformance.build import TARGETS, binary, build
from kvshim.config import ConfigError, load
from kvshim.config.flag import Flag, Kind
from kvshim.config.gates import DEFAULTS
from kvshim.config.retired_flags import RETIRED
from kvshim.config.tables import BY_NAME, ETCD_FLAGS
from kvshim.config.values import parse_bool, parse_duration, parse_int

HERE = Path(__file__).resolve().parent
PROGRAM = HERE.parent / "build" / "flags"

KINDS = {
    "*flag.stringValue": Kind.STRING,
    "*flag.boolValue": Kind.BOOL,
    "*flag.intValue": Kind.INT,
    "*flag.uintValue": Kind.UINT,
    "*flag.int64Value": Kind.INT64,
    "*flag.uint64Value": Kind.UINT64,
    "*flags.uint32Value": Kind.UINT32,
    "*flag.durationValue": Kind.DURATION,
    "*flags.UniqueURLs": Kind.URLS,
    "*flags.UniqueStringsValue": Kind.STRINGS,
    "*flags.StringsValue": Kind.STRINGS,
    "*featuregate.featureGate": Kind.GATES,
}

# Where we differ on purpose: name -> why.
OTHER_DEFAULTS = {
    "listen-client-urls": "the address, not a name for it",
    "advertise-client-urls": "the address, not a name for it",
}

# What the program has beyond the package, `help` apart.
ETCDMAIN = {
    "config-file",
    "discovery-fallback",
    "initial-cluster-state",
    "v2-deprecation",
    "version",
}


@functools.cache
def embedded() -> dict[str, dict[str, str]]:
    """The flags that etcd's package defines, by name."""
    assert shutil.which("go"), "no `go` in PATH: conformance needs Go 1.26 or newer"
    PROGRAM.parent.mkdir(exist_ok=True)
    command = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false"]
    subprocess.run(
        [*command, "-o", str(PROGRAM), "./cmd/flags"],
        cwd=HERE / "etcd",
        env={**os.environ, "CGO_ENABLED": "0"},
        timeout=900,
        check=True,
    )
    run = subprocess.run([PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    return {row["name"]: row for row in json.loads(run.stdout)}


@pytest.fixture(scope="module")
def etcd() -> Path:
    build(TARGETS["etcd"])
    return binary("etcd")


def run_etcd(etcd: Path, argv: list[str], where: Path) -> subprocess.CompletedProcess[str]:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("ETCD_")}
    return subprocess.run(
        [etcd, *argv],
        cwd=where,
        env=environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


EMBEDDED = [
    flag for flag in ETCD_FLAGS if flag.name not in ETCDMAIN and flag.kind is not Kind.IGNORED
]


def test_no_flag_of_etcd_is_missing_and_none_is_invented():
    assert {flag.name for flag in EMBEDDED} == set(embedded())


@pytest.mark.parametrize("flag", EMBEDDED, ids=lambda flag: flag.name)
def test_a_flag_has_etcds_kind(flag: Flag):
    kind = flag.kind if flag.kind is not Kind.ORIGINS else Kind.URLS
    assert kind is KINDS[embedded()[flag.name]["type"]]


@pytest.mark.parametrize("flag", EMBEDDED, ids=lambda flag: flag.name)
def test_a_flag_has_etcds_default(flag: Flag):
    theirs = embedded()[flag.name]["default"]
    same = meaning(flag, flag.default) == meaning(flag, theirs)
    assert same is not (flag.name in OTHER_DEFAULTS), (flag.default, theirs)


def meaning(flag: Flag, text: str) -> object:
    match flag.kind:
        case Kind.BOOL:
            return parse_bool(text)
        case Kind.DURATION:
            return parse_duration(text)
        case Kind.INT | Kind.UINT | Kind.INT64 | Kind.UINT64 | Kind.UINT32:
            return parse_int(text, -(2**63), 2**64)
        case _:
            return text


def sample(flag: Flag) -> str:
    if flag.kind is Kind.CHOICE and flag.name != "discovery-fallback":
        return "new" if flag.name == "initial-cluster-state" else "gone"
    if flag.kind is Kind.GATES:
        return "InitialCorruptCheck=true"
    return flag.default or {Kind.BOOL: "false", Kind.URLS: "http://127.0.0.1:1"}.get(flag.kind, "x")


@pytest.mark.parametrize("flag", ETCD_FLAGS, ids=lambda flag: flag.name)
def test_the_real_program_takes_every_flag_of_ours(flag: Flag, etcd: Path, tmp_path: Path):
    done = run_etcd(etcd, [f"--{flag.name}={sample(flag)}", "--version"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "etcd Version: 3.7" in done.stdout


@pytest.mark.parametrize("name", [row.flag.name for row in RETIRED])
def test_the_real_program_has_retired_what_we_call_retired(name: str, etcd: Path, tmp_path: Path):
    done = run_etcd(etcd, [f"--{name}=1", "--version"], tmp_path)
    assert done.returncode == 2
    assert f"flag provided but not defined: -{name}" in done.stderr


def test_every_flag_in_etcds_help_is_known(etcd: Path, tmp_path: Path):
    shown = set(re.findall(r"^  --([a-z0-9-]+)", run_etcd(etcd, ["--help"], tmp_path).stdout, re.M))
    assert len(shown) > 100
    assert shown <= set(BY_NAME)


def test_the_gates_are_etcds(etcd: Path, tmp_path: Path):
    help_ = run_etcd(etcd, ["--help"], tmp_path).stdout
    listed = re.findall(r"^    (\w+)=true\|false \((?:ALPHA|BETA) - default=(\w+)\)", help_, re.M)
    theirs = {name: default == "true" for name, default in listed}
    assert {name: on for name, on in theirs.items() if not name.startswith("All")} == DEFAULTS


# Command lines that make etcd exit at once, and so must make us.
STOPS = [
    ["--nope"],
    ["--name"],
    ["stray"],
    ["--socket-reuse-port", "false"],
    ["---name=a"],
    ["--heartbeat-interval=soon"],
    ["--heartbeat-interval=-1"],
    ["--heartbeat-interval=08"],
    ["--warning-apply-duration=5"],
    ["--client-cert-auth=yes"],
    ["--max-concurrent-streams=4294967296"],
    ["--initial-cluster-state=old"],
    ["--feature-gates=Nope=true"],
    ["--feature-gates=LeaseCheckpoint"],
    ["--feature-gates=LeaseCheckpointPersist=true"],
    ["--listen-client-urls=127.0.0.1:1"],
    ["--listen-client-urls=http://127.0.0.1:1/path", "--advertise-client-urls=http://a:1"],
    ["--listen-client-urls=http://127.0.0.1:1"],
    ["--listen-client-urls=http://example.com:1", "--advertise-client-urls=http://a:1"],
    ["--listen-metrics-urls=http://example.com:1"],
    ["--advertise-client-urls=http://:1"],
    ["--heartbeat-interval=0"],
    ["--election-timeout=499"],
    ["--election-timeout=50001"],
    ["--compact-hash-check-time=0s"],
    ["--auto-compaction-mode=sometimes"],
    ["--auto-compaction-retention=soon"],
    ["--tls-min-version=TLS1.1"],
    ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
    ["--tls-min-version=TLS1.3", "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
    ["--cipher-suites=ROT13"],
    ["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1"],
    ["--listen-client-http-urls=http://localhost:2379", "--listen-client-urls=http://localhost:2379",
     "--advertise-client-urls=http://localhost:2379"],
    ["--logger=capnslog"],
    ["--log-format=xml"],
    ["--log-level=loud"],
    ["--log-outputs=default,/tmp/a"],
    ["--enable-log-rotation"],
    ["--initial-cluster=other=http://localhost:2380"],
    ["--initial-cluster=default=http://10.0.0.1:2380"],
    ["--discovery-fallback=proxy"],
    ["--discovery-token=x"],
    ["--config-file=/no/such/file"],
]  # fmt: skip


# Out of the way of whatever else listens here; what comes later on a command line wins.
ASIDE = [
    "--data-dir=data",
    "--listen-peer-urls=http://127.0.0.1:0",
    "--listen-client-urls=http://127.0.0.1:0",
    "--advertise-client-urls=http://127.0.0.1:0",
]


@pytest.mark.parametrize("argv", STOPS, ids=" ".join)
def test_kvshim_stops_where_etcd_stops(argv: list[str], etcd: Path, tmp_path: Path):
    aside = ASIDE if argv != ["--listen-client-urls=http://127.0.0.1:1"] else ASIDE[:2]
    done = run_etcd(etcd, [*aside, *argv], tmp_path)
    assert done.returncode != 0
    with pytest.raises(ConfigError) as caught:
        load(argv, {})
    if done.returncode == 2 and "panic" not in done.stderr:
        assert caught.value.exit_code == 2, "a command line that cannot be parsed is 2, as in etcd"


def test_etcd_stops_for_those_reasons_and_not_for_want_of_a_port(etcd: Path, tmp_path: Path):
    with subprocess.Popen(
        [etcd, *ASIDE], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            assert any("ready to serve client requests" in line for line in process.stderr)
        finally:
            process.kill()
