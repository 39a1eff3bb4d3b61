"""Every flag of the tables is obeyed, accepted with one warning, or refused by name."""

from __future__ import annotations

import pytest

from kvshim.config import NoticeKind
from kvshim.config.flag import Disposition, Flag, Kind, check_text
from kvshim.config.gates import DEFAULTS, NOTES
from kvshim.config.retired_flags import RETIRED
from kvshim.config.tables import BY_NAME, ETCD_FLAGS
from tests.config.helpers import config_of, loaded, notices_of, refusal

ALL = [*ETCD_FLAGS, *(row.flag for row in RETIRED)]
SAMPLES = {
    Kind.STRING: "x",
    Kind.BOOL: "true",
    Kind.INT: "7",
    Kind.UINT: "7",
    Kind.INT64: "7",
    Kind.UINT64: "7",
    Kind.UINT32: "7",
    Kind.DURATION: "7s",
    Kind.URLS: "http://127.0.0.1:7",
    Kind.ORIGINS: "http://127.0.0.1:7",
    Kind.STRINGS: "x,y",
    Kind.IGNORED: "true",
}

PARTNERS = {
    "peer-cert-file": ("--peer-key-file=/k",),
    "peer-key-file": ("--peer-cert-file=/c",),
    "peer-client-cert-file": ("--peer-client-key-file=/k",),
    "peer-client-key-file": ("--peer-client-cert-file=/c",),
    "client-cert-file": ["--client-key-file=x"],
    "client-key-file": ["--client-cert-file=x"],
}
"""What a flag must not be given without."""


def sample(flag: Flag) -> str:
    """A value that is not the flag's default."""
    if flag.kind is Kind.CHOICE:
        return next(choice for choice in flag.choices if choice != flag.default)
    if flag.kind is Kind.BOOL and flag.default == "true":
        return "false"
    return SAMPLES[flag.kind]


def named(disposition: Disposition) -> list[Flag]:
    return [flag for flag in ALL if flag.disposition is disposition]


@pytest.mark.parametrize("flag", ALL, ids=lambda flag: flag.name)
def test_a_flags_default_is_a_value_of_its_kind(flag):
    if flag.default:
        check_text(flag, flag.default)


@pytest.mark.parametrize("flag", named(Disposition.ACCEPTED), ids=lambda flag: flag.name)
def test_an_accepted_flag_is_exactly_one_warning_that_names_it_and_says_why(flag):
    argv = [f"--{flag.name}={sample(flag)}", *PARTNERS.get(flag.name, ())]
    notice, *others = notices_of(argv)
    assert notice.kind is NoticeKind.NO_EFFECT
    assert notice.name == f"--{flag.name}"
    assert notice.reason == flag.note
    assert notice.reason
    assert len(others) == len(argv) - 1


@pytest.mark.parametrize("flag", named(Disposition.REFUSED), ids=lambda flag: flag.name)
def test_a_refused_flag_is_named_and_says_what_to_do(flag):
    error = refusal([f"--{flag.name}={sample(flag)}"])
    assert error.exit_code == 1
    assert str(error) == f"--{flag.name} is refused: {flag.note}"


@pytest.mark.parametrize("flag", named(Disposition.REFUSED), ids=lambda flag: flag.name)
def test_a_refused_flag_with_its_own_default_asks_for_nothing(flag):
    assert notices_of([f"--{flag.name}={flag.default}"]) == ()


@pytest.mark.parametrize(
    "name", [row.flag.name for row in RETIRED if row.now], ids=lambda name: name
)
def test_a_renamed_flag_goes_on_under_its_new_name_with_one_warning(name):
    flag, now = BY_NAME[name], BY_NAME[name.removeprefix("experimental-")]
    [notice] = notices_of([f"--{name}={sample(flag)}"])
    assert notice.name == f"--{name}"
    assert f"its name is --{now.name} now" in notice.reason
    if now.disposition is Disposition.ACCEPTED:
        assert notice.kind is NoticeKind.NO_EFFECT
        assert now.note in notice.reason
    else:
        assert notice.kind is NoticeKind.RENAMED


def test_renamed_flags_have_the_kind_of_their_successors():
    for row in RETIRED:
        if row.now:
            assert row.flag.kind is BY_NAME[row.now].kind, row.flag.name


def test_a_renamed_flag_is_obeyed():
    config = config_of(["--experimental-watch-progress-notify-interval=5s"])
    assert config.watch_progress_notify_interval_s == 5


def test_the_new_name_wins_over_the_old_one():
    argv = ["--experimental-warning-apply-duration=7s", "--warning-apply-duration=1s"]
    outcome = loaded(argv)
    assert outcome.config.warning_apply_duration_s == 1
    [notice] = outcome.notices
    assert notice.reason.endswith("which is given too and wins")


@pytest.mark.parametrize(
    "name", [row.flag.name for row in RETIRED if row.gate], ids=lambda name: name
)
def test_a_flag_that_is_a_gate_now_turns_the_gate_with_one_warning(name):
    row = next(row for row in RETIRED if row.flag.name == name)
    assert row.gate is not None
    argv = [f"--{name}={sample(row.flag)}"]
    if row.gate == "LeaseCheckpointPersist":
        argv.append("--feature-gates=LeaseCheckpoint=true")
    outcome = loaded(argv)
    assert (row.gate in outcome.config.feature_gates) is not DEFAULTS[row.gate]
    [notice, *_] = outcome.notices
    assert notice.kind is NoticeKind.NO_EFFECT
    assert notice.name == f"--{name}"
    assert NOTES[row.gate] in notice.reason
    assert len(outcome.notices) == len(argv)


def test_a_gate_that_is_given_itself_wins_over_its_old_flag():
    argv = ["--feature-gates=CompactHashCheck=false", "--experimental-compact-hash-check-enabled"]
    assert "CompactHashCheck" not in config_of(argv).feature_gates


def test_a_gate_is_one_warning_if_it_is_turned():
    [notice] = notices_of(["--feature-gates=InitialCorruptCheck=true,CompactHashCheck=false"])
    assert notice.name == "--feature-gates=InitialCorruptCheck"


def test_groups_of_gates_turn_all_but_those_that_are_named():
    config = config_of(["--feature-gates=AllBeta=false,FastLeaseKeepAlive=true,AllAlpha=false"])
    assert config.feature_gates == {"FastLeaseKeepAlive"}


def test_switching_off_what_kvshim_does_not_do_is_no_warning():
    off = ["--unsafe-no-fsync=false", "--enable-pprof=false"]
    assert notices_of(off) == ()


def test_turning_off_what_would_be_on_is_a_warning():
    [notice] = notices_of(["--pre-vote=false"])
    assert notice.name == "--pre-vote"


def test_every_flag_has_help_and_every_name_is_there_once():
    names = [flag.name for flag in ALL]
    assert len(set(names)) == len(names)
    for flag in ALL:
        assert flag.help
        assert flag.note or flag.disposition is Disposition.OBEYED


# The flags of etcd 3.5 and 3.6 that 3.7 has no more, from the programs of those versions.
GONE = """
    discovery discovery-proxy enable-v2 proxy proxy-failure-wait proxy-refresh-interval
    proxy-dial-timeout proxy-write-timeout proxy-read-timeout experimental-enable-v2v3
    experimental-initial-corrupt-check experimental-corrupt-check-time
    experimental-compact-hash-check-enabled experimental-compact-hash-check-time
    experimental-enable-lease-checkpoint experimental-enable-lease-checkpoint-persist
    experimental-compaction-batch-limit experimental-compaction-sleep-interval
    experimental-peer-skip-client-san-verification experimental-watch-progress-notify-interval
    experimental-downgrade-check-time experimental-memory-mlock
    experimental-warning-apply-duration experimental-warning-unary-request-duration
    experimental-txn-mode-write-with-shared-buffer experimental-max-learners
    experimental-bootstrap-defrag-threshold-megabytes experimental-stop-grpc-service-on-defrag
    experimental-set-member-localaddr experimental-snapshot-catchup-entries
    experimental-enable-distributed-tracing experimental-distributed-tracing-address
    experimental-distributed-tracing-service-name experimental-distributed-tracing-instance-id
    experimental-distributed-tracing-sampling-rate
"""


def test_every_flag_that_older_versions_had_is_known():
    assert {row.flag.name for row in RETIRED} == set(GONE.split())
