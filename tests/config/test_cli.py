"""The `kvshim` command: what people see and which exit code scripts get."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kvshim.cli.banner import banner, commands_to_try
from kvshim.cli.main import main
from kvshim.config.extra_flags import EXTRAS
from kvshim.config.tables import ETCD_FLAGS, IGNORED
from kvshim.errors import StartupError
from tests.config.helpers import config_of
from tests.config.test_kubeadm import V1_37

ROOT = Path(__file__).parents[2]
RUN_MODULE = "kvshim.node.run"


@pytest.fixture
def node(monkeypatch):
    """Stands in for the node itself: remembers how it was started, and may fail."""
    module = ModuleType(RUN_MODULE)
    module.started = []
    module.failure = None

    def run_node(config, log, on_ready):
        if module.failure is not None:
            raise module.failure
        module.started.append(config)
        on_ready()
        return 0

    module.run_node = run_node
    monkeypatch.setitem(sys.modules, RUN_MODULE, module)
    for name in list(os.environ):
        if name.startswith(("ETCD_", "KVSHIM_")):
            monkeypatch.delenv(name)
    return module


def test_a_node_is_started_with_etcds_flags(node, capsys):
    assert main(["--name=a", "--data-dir=/d"]) == 0
    [config] = node.started
    assert config.name == "a"


def test_the_manifest_of_kubeadm_starts_a_node(node, capfd):
    assert main(V1_37) == 0
    assert len(node.started) == 1
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert lines[0]["msg"] == "starting kvshim"
    assert {line["msg"] for line in lines[1:]} == {"flag has no effect"}
    assert {line["level"] for line in lines[1:]} == {"warn"}


def test_the_environment_is_read(node, monkeypatch):
    monkeypatch.setenv("ETCD_NAME", "from-environment")
    assert main([]) == 0
    assert node.started[0].name == "from-environment"


def test_a_node_that_cannot_start_says_so_in_one_sentence(node, capfd):
    node.failure = StartupError("port 2379 is in use by another process")
    assert main([]) == 1
    *logged, sentence = capfd.readouterr().err.splitlines()
    assert sentence == "kvshim: port 2379 is in use by another process"
    assert [json.loads(line)["msg"] for line in logged] == ["starting kvshim", "cannot start"]


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        (["--nmae=a"], 2, "kvshim: unknown flag --nmae: did you mean --name?"),
        (["--cert-file=/c"], 1, "kvshim: --cert-file is given without --key-file: give both"),
        (["strat"], 2, 'kvshim: "strat" is not a flag or a command: see kvshim --help'),
        (["gateway", "start"], 1,
         "kvshim: gateway: kvshim is no TCP gateway: point clients at the node itself"),
        (["grpc-proxy"], 1,
         "kvshim: grpc-proxy: kvshim is no gRPC proxy: point clients at the node itself"),
        (["--log-outputs=/no/such/dir/log"], 1,
         "kvshim: cannot open the log file /no/such/dir/log: No such file or directory"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_on_stderr(node, capfd, argv, code, sentence):
    assert main(argv) == code
    out, err = capfd.readouterr()
    assert err == sentence + "\n"
    assert out == ""
    assert node.started == []


@pytest.mark.parametrize("argv", [["help"], ["--help"], ["-h"]])
def test_help_names_every_flag_once_and_fits_a_terminal(argv, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    shown = [line.split()[0] for line in out.splitlines() if line.startswith("  --")]
    expected = [flag.name for flag in (*ETCD_FLAGS, *EXTRAS) if flag not in IGNORED]
    assert sorted(shown) == sorted(f"--{name}" for name in expected)
    assert out.index("Member:") < out.index("Unsafe:") < out.index("kvshim only:")


@pytest.mark.parametrize("argv", [["version"], ["--version"], ["--version", "--name=a"]])
def test_the_version_is_printed(argv, capsys):
    assert main(argv) == 0
    assert capsys.readouterr().out.startswith("kvshim Version: ")


@pytest.mark.parametrize("command", ["help", "version"])
def test_a_reader_that_leaves_early_gets_no_traceback(command):
    command = f"{sys.executable} -m kvshim.cli.main {command} | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""


def test_the_process_exits_with_the_code(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "kvshim.cli.main", "--bogus"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_person_is_told_where_it_listens_where_the_data_lies_and_what_to_try(node, capfd):
    assert main(["--log-format=console", "--data-dir=/var/lib/kvshim"]) == 0
    told = capfd.readouterr().err
    for part in ("http://127.0.0.1:2379", "http://127.0.0.1:2379/metrics", "/var/lib/kvshim"):
        assert part in told
    assert told.count("etcdctl --endpoints=http://127.0.0.1:2379 ") == 3


def test_a_supervisors_json_log_stays_json(node, capfd):
    assert main(["--log-format=json"]) == 0
    for line in capfd.readouterr().err.splitlines():
        json.loads(line)


def test_commands_to_try_use_the_plainest_address():
    everywhere = ["--listen-client-urls=http://0.0.0.0:1", "--advertise-client-urls=http://a:1"]
    assert "--endpoints=http://127.0.0.1:1 " in commands_to_try(config_of(everywhere))[0]
    mixed = [
        "--listen-client-urls=https://127.0.0.1:2,http://10.0.0.1:1",
        "--advertise-client-urls=http://10.0.0.1:1",
        "--cert-file=/c",
        "--key-file=/k",
    ]
    assert "--endpoints=http://10.0.0.1:1 put" in commands_to_try(config_of(mixed))[0]


def test_commands_to_try_ask_for_the_clients_certificate():
    first = commands_to_try(config_of(V1_37))[0]
    assert first == (
        "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt"
        " --cert=CLIENT.crt --key=CLIENT.key put greeting hello"
    )


def test_metrics_are_where_they_are_served():
    more = ["--listen-metrics-urls=http://127.0.0.1:1"]
    both = "metrics   http://127.0.0.1:2379/metrics, http://127.0.0.1:1/metrics\n"
    assert both in banner(config_of(more))
    assert "metrics   nowhere" in banner(config_of(["--transport=grpcio"]))
