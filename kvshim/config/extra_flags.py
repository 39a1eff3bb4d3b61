"""Flags that etcd lacks. Few, and never needed: an etcd command line is complete without them.

Pure data. Their variables are KVSHIM_*, their config-file keys carry their own names.
"""

from __future__ import annotations

from kvshim.config.flag import Disposition, Flag, Kind, Section
from kvshim.config.role_numbers import ROLE_NUMBERS_DEFAULT

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
        "voters",
        Kind.UINT,
        str(ROLE_NUMBERS_DEFAULT.voters),
        Disposition.OBEYED,
        "How many members vote, of those that came by `kvshim join`: an odd number. Said by the"
        " cluster's first node; later `kvshim roles` changes it.",
    ),
    Flag(
        Section.KVSHIM,
        "standbys",
        Kind.UINT,
        str(ROLE_NUMBERS_DEFAULT.standbys),
        Disposition.OBEYED,
        "How many more of those hold the data, to take a lost voter's place; all others are spares."
        " Said and changed like --voters.",
    ),
    Flag(
        Section.KVSHIM,
        "failure-domain",
        Kind.STRING,
        "",
        Disposition.OBEYED,
        "What this member fails together with, such as a rack: voters and standbys are spread.",
    ),
    Flag(
        Section.KVSHIM,
        "replace-after",
        Kind.DURATION,
        "30s",
        Disposition.OBEYED,
        "How long the leader waits for a lost member before another one gets its role.",
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
