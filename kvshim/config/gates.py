"""etcd 3.7's server feature gates, and what each comes to in kvshim.

Pure data. kvshim has no gates of its own: a gate is known, so that a manifest that names it
starts, and setting it away from what kvshim does anyway is told in one warning.
"""

from __future__ import annotations

from collections.abc import Mapping

DEFAULTS: Mapping[str, bool] = {
    "StopGRPCServiceOnDefrag": False,
    "TxnModeWriteWithSharedBuffer": True,
    "InitialCorruptCheck": False,
    "CompactHashCheck": False,
    "LeaseCheckpoint": False,
    "LeaseCheckpointPersist": False,
    "SetMemberLocalAddr": False,
    "FastLeaseKeepAlive": True,
    "PriorityRequest": False,
}

ALL_ALPHA, ALL_BETA = "AllAlpha", "AllBeta"
_BETA = frozenset({"TxnModeWriteWithSharedBuffer", "FastLeaseKeepAlive"})

KNOWN_GATES: Mapping[str, bool] = {**DEFAULTS, ALL_ALPHA: False, ALL_BETA: False}

NOTES: Mapping[str, str] = {
    "StopGRPCServiceOnDefrag": "there is nothing to defragment, so service never stops for it",
    "TxnModeWriteWithSharedBuffer": "it tunes etcd's own storage engine",
    "InitialCorruptCheck": "members are compared while they run: see docs/divergence.md",
    "CompactHashCheck": "members are compared in any case: see docs/divergence.md",
    "LeaseCheckpoint": "it informs followers, and this node is the only member",
    "LeaseCheckpointPersist": "it matters after a change of leader, and there is one member",
    "SetMemberLocalAddr": "it chooses an address for peers, and this node is the only member",
    "FastLeaseKeepAlive": "a keep-alive has nothing to skip with one member",
    "PriorityRequest": "kvshim has one queue of proposals",
    ALL_ALPHA: "kvshim has no alpha features",
    ALL_BETA: "kvshim has no beta features",
}


def effective(given: Mapping[str, bool]) -> frozenset[str]:
    """The gates that are on. A group never overrides a gate that is named itself."""
    state = dict(DEFAULTS)
    for group, is_member in ((ALL_ALPHA, False), (ALL_BETA, True)):
        if group in given:
            for name in state:
                if (name in _BETA) is is_member:
                    state[name] = given[group]
    state.update({name: on for name, on in given.items() if name in DEFAULTS})
    return frozenset(name for name, on in state.items() if on)
