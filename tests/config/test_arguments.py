"""The command line follows Go's `flag` package."""

from __future__ import annotations

import pytest

from kvshim.config import HelpWanted, VersionWanted, load
from tests.config.helpers import config_of, refusal


@pytest.mark.parametrize(
    "argv", [["-name", "a"], ["--name", "a"], ["-name=a"], ["--name=a"], ["--name=b", "--name=a"]]
)
def test_a_value_may_follow_or_be_joined_and_the_last_wins(argv):
    assert config_of(argv).name == "a"


def test_a_value_may_look_like_a_flag():
    assert config_of(["--name", "--data-dir"]).name == "--data-dir"
    assert config_of(["--name=a=b"]).name == "a=b"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--socket-reuse-port"], True),
        (["--socket-reuse-port=true"], True),
        (["-socket-reuse-port=0"], False),
        (["--socket-reuse-port=F"], False),
        ([], False),
    ],
)
def test_a_switch_may_stand_alone(argv, expected):
    assert config_of(argv).socket_reuse_port is expected


def test_a_switch_takes_no_value_from_the_next_argument():
    error = refusal(["--socket-reuse-port", "false"])
    assert error.exit_code == 2
    assert str(error) == (
        '"false" is not a flag: write --socket-reuse-port=false to give it a value'
    )


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--nmae=a"], "unknown flag --nmae: did you mean --name?"),
        (["--listen-client-url=x"],
         "unknown flag --listen-client-url: did you mean --listen-client-urls?"),
        (["--zzz"], "unknown flag --zzz: see kvshim --help for all flags"),
        (["--name"], "flag needs an argument: --name"),
        (["stray"], '"stray" is not a flag or a command: see kvshim --help'),
        (["--name=a", "stray"], '"stray" is not a flag or a command: see kvshim --help'),
        (["--", "stray"], '"stray" is not a flag or a command: see kvshim --help'),
        (["-"], '"-" is not a flag or a command: see kvshim --help'),
        (["---name=a"], "bad flag syntax: ---name=a"),
        (["-=a"], "bad flag syntax: -=a"),
        (["--heartbeat-interval=fast"],
         'invalid value "fast" for --heartbeat-interval: expected a whole number'),
        (["--max-txn-ops=-1"],
         'invalid value "-1" for --max-txn-ops: expected a whole number from 0 to'
         " 18446744073709551615"),
        (["--warning-apply-duration=5"],
         'invalid value "5" for --warning-apply-duration: expected a duration with a unit, such as'
         " 100ms, 5s or 10m"),
        (["--client-cert-auth=yes"],
         'invalid value "yes" for --client-cert-auth: expected true or false'),
        (["--listen-client-urls=127.0.0.1:1"],
         'invalid value "127.0.0.1:1" for --listen-client-urls: URL scheme must be http, https,'
         " unix, or unixs: 127.0.0.1:1"),
        (["--initial-cluster-state=old"],
         'invalid value "old" for --initial-cluster-state: expected new or existing'),
        (["--feature-gates=Nope=true"],
         'invalid value "Nope=true" for --feature-gates: unrecognized feature gate: Nope'),
        (["--transport=carrier-pigeon"],
         'invalid value "carrier-pigeon" for --transport: expected http2 or grpcio'),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_one_sentence_and_exit_code_2(argv, sentence):
    error = refusal(argv)
    assert str(error) == sentence
    assert error.exit_code == 2


def test_gates_given_twice_add_up():
    argv = ["--feature-gates=PriorityRequest=true", "--feature-gates=InitialCorruptCheck=true"]
    assert {"PriorityRequest", "InitialCorruptCheck"} <= config_of(argv).feature_gates


@pytest.mark.parametrize("argv", [["-h"], ["--help"], ["--name=a", "-help"]])
def test_help_is_asked_for(argv):
    assert load(argv, {}) == HelpWanted()


def test_an_error_before_help_comes_first():
    refusal(["--nope", "--help"])


def test_the_version_is_asked_for_even_beside_other_flags():
    assert load(["--name=a", "--version"], {}) == VersionWanted()
