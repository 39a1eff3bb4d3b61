"""Flags that etcd lacks. Few, and never needed: an etcd command line is complete without them.

Pure data. Their variables are KVSHIM_*, their config-file keys carry their own names.
"""

from __future__ import annotations

from kvshim.config.flag import Disposition, Flag, Kind, Section

EXTRAS: tuple[Flag, ...] = (
    Flag(
        Section.KVSHIM,
        "transport",
        Kind.CHOICE,
        "http2",
        Disposition.OBEYED,
        "Which implementation of gRPC serves clients.",
        choices=("http2", "grpcio"),
    ),
    Flag(
        Section.KVSHIM,
        "read-only-without-quorum",
        Kind.CHOICE,
        "nothing",
        Disposition.OBEYED,
        "What is served without a majority beside serializable reads; stale-reads: gets and lists,"
        " from this member's store, which may lack what the others know.",
        choices=("nothing", "stale-reads"),
    ),
    Flag(
        Section.KVSHIM,
        "scrub-interval",
        Kind.DURATION,
        "24h",
        Disposition.OBEYED,
        "Time between readings of all that is stored, to find damage of the disk.",
    ),
    Flag(
        Section.KVSHIM,
        "wal-bytes-max",
        Kind.INT64,
        str(64 * 1024 * 1024),
        Disposition.OBEYED,
        "Size of the store's WAL above which writes pause until a checkpoint has reset it.",
    ),
)
