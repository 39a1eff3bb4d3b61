"""A kube-apiserver's load on one small store: rates, lists, watches, plain and with TLS."""

from __future__ import annotations

from bench.load import WRITES, Phase, cpu_us
from bench.trial import Figures, Measurement, Outcome, Trial
from conformance.servers import Kind

LISTS = ("list", "paged", "stream")
"""The last is RangeStream, which kine does not have."""


def rates(phases: dict[str, Phase], prefix: str, *names: str) -> Figures:
    """Operations a second of each of these phases."""
    return {f"{prefix}{name}_per_second": phases[name]["per_second"] for name in names}


def load(trial: Trial) -> Outcome:
    """Create, update, list in every way, delete."""
    with trial.server() as server:
        lists = LISTS[:-1] if trial.kind is Kind.KINE else LISTS
        names = ("create", "update", "get", *lists, "delete")
        phases = trial.load(server, trial.scale.objects, *names)
        used = trial.usage(server)
    figures = {
        **rates(phases, "", *WRITES),
        **{f"{name}_p99_ms": phases[name]["p99_ms"] for name in WRITES},
        **{f"{name}_ms": phases[name]["p50_ms"] for name in lists},
        "put_cpu_us": cpu_us(phases, "create", "update"),
        "rss_mib": used.rss_mib,
        "rss_peak_mib": used.rss_peak_mib,
    }
    return Outcome(figures, {"phases": phases})


def tls(trial: Trial) -> Outcome:
    """Writes and gets of clients that show a certificate."""
    with trial.secure_server() as server:
        phases = trial.load(server, trial.scale.objects, "create", "update", "get", "delete")
    figures = rates(phases, "tls_", "create", "update", "get", "delete")
    figures["tls_put_cpu_us"] = cpu_us(phases, "create", "update")
    return Outcome(figures, {"phases": phases})


def get(trial: Trial) -> Outcome:
    """Linearizable gets of single keys, long enough for CPU time to be read well."""
    with trial.server() as server:
        flags = {"get_passes": trial.scale.get_passes}
        phases = trial.load(server, trial.scale.objects, "fill", "get", **flags)
    figures = rates(phases, "", "get")
    figures |= {"get_cpu_us": cpu_us(phases, "get"), "get_p99_ms": phases["get"]["p99_ms"]}
    return Outcome(figures, {"phases": phases})


def watch(trial: Trial) -> Outcome:
    """Updates at a fixed rate, whatever the answers do, while many watch: both latencies."""
    with trial.server() as server:
        phases = trial.load(server, trial.scale.objects, "create", "watch")
    found = phases["watch"]
    figures = {
        "watch_p50_ms": found["event_p50_ms"],
        "watch_p99_ms": found["event_p99_ms"],
        "put_p50_ms": found["p50_ms"],
        "put_p99_ms": found["p99_ms"],
        "put_p999_ms": found["p999_ms"],
    }
    return Outcome(figures, {"phases": phases})


EVERY = (Kind.ETCD, Kind.KVSHIM, Kind.KINE)
LOAD = Measurement("load", "create, update, list, delete", load, servers=EVERY)
TLS = Measurement("tls", "the same with TLS and client certificates", tls)
GET = Measurement("get", "gets of single keys", get, rounds=7, rounds_full=7, servers=EVERY)
WATCH = Measurement("watch", "watches and puts at a fixed rate", watch, servers=EVERY)
