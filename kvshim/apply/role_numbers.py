"""How many voters and standbys the cluster wants, in the replicated state. Apply thread.

They are the cluster's, not a node's: whoever leads goes by the same numbers.
"""

from __future__ import annotations

from typing import Final

from kvshim.apply.members import ReadsMeta, WritesMeta
from kvshim.apply.outcome import Applied
from kvshim.config.role_numbers import RoleNumbers
from kvshim.pb.kvshim import member_pb2 as pb

META_NAME: Final = "role_numbers"


def role_numbers_of(view: ReadsMeta) -> RoleNumbers | None:
    """None while nobody has said any."""
    kept = view.meta(META_NAME)
    if kept is None:
        return None
    numbers = pb.RoleNumbers.FromString(kept)
    return RoleNumbers(numbers.voters, numbers.standbys)


def apply_role_numbers(batch: WritesMeta, request: pb.RoleNumbersRequest) -> Applied:
    """These are the numbers from now on; with `first`, only if there are none."""
    kept = batch.meta(META_NAME)
    if kept is not None and request.first:
        return Applied(pb.RoleNumbersResponse(numbers=pb.RoleNumbers.FromString(kept)))
    batch.meta_put(META_NAME, request.numbers.SerializeToString())
    return Applied(pb.RoleNumbersResponse(numbers=request.numbers))
