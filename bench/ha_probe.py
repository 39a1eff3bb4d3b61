"""Writes that begin at a fixed pace whatever became of those before, to see when a cluster answers.

A closed loop would hang in calls that a dead leader took with it, and measure its own patience.
Each member that is probed has a thread of its own that begins calls; answers are noted by gRPC's.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence

import grpc

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.cluster.member import CHANNEL_OPTIONS

PACE_SECONDS = 0.01
CALL_SECONDS = 5.0
JOIN_SECONDS_MAX = 10.0


class Probe:
    """Puts at each target every 10 ms, in a `with` block."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._answers: list[tuple[float, float]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(target,), daemon=True) for target in targets
        ]

    def __enter__(self) -> Probe:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(JOIN_SECONDS_MAX)

    def wait(self, count: int, since: float, seconds: float) -> None:
        """Until so many writes that began after `since` are answered; AssertionError if not."""
        deadline = time.monotonic() + seconds
        while len([1 for begin, _ in self._seen() if begin >= since]) < count:
            assert time.monotonic() < deadline, f"fewer than {count} writes in {seconds} s"
            time.sleep(0.02)

    def longest_gap(self, since: float, until: float) -> float:
        """Seconds without an acknowledged write, at most, within a time."""
        ends = sorted(end for _, end in self._seen() if since <= end <= until)
        return max(after - before for before, after in itertools.pairwise([since, *ends, until]))

    def _seen(self) -> list[tuple[float, float]]:
        with self._lock:
            return list(self._answers)

    def _run(self, target: str) -> None:
        with grpc.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
            put = channel.unary_unary(
                "/etcdserverpb.KV/Put",
                request_serializer=pb.PutRequest.SerializeToString,
                response_deserializer=pb.PutResponse.FromString,
            )
            for number in itertools.count():
                if self._stop.wait(PACE_SECONDS):
                    break
                request = pb.PutRequest(key=b"/probe/%d" % (number % 100), value=b"v")
                begin = time.monotonic()
                call = put.future(request, timeout=CALL_SECONDS)
                call.add_done_callback(lambda done, begin=begin: self._note(done, begin))

    def _note(self, call: grpc.Future, begin: float) -> None:
        if call.code() is grpc.StatusCode.OK:
            with self._lock:
                self._answers.append((begin, time.monotonic()))
