from kvshim.pb.etcd import rpc_pb2 as _rpc_pb2
from kvshim.pb.kvshim import member_pb2 as _member_pb2
from kvshim.pb.kvshim import token_pb2 as _token_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Command(_message.Message):
    __slots__ = ("id", "decided_in_term", "put", "delete_range", "txn", "compaction", "lease_grant", "lease_revoke", "alarm", "member_attributes", "member_update", "lease_checkpoint", "cluster_version", "token_add", "token_spend")
    ID_FIELD_NUMBER: _ClassVar[int]
    DECIDED_IN_TERM_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    TXN_FIELD_NUMBER: _ClassVar[int]
    COMPACTION_FIELD_NUMBER: _ClassVar[int]
    LEASE_GRANT_FIELD_NUMBER: _ClassVar[int]
    LEASE_REVOKE_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    MEMBER_UPDATE_FIELD_NUMBER: _ClassVar[int]
    LEASE_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ADD_FIELD_NUMBER: _ClassVar[int]
    TOKEN_SPEND_FIELD_NUMBER: _ClassVar[int]
    id: int
    decided_in_term: int
    put: _rpc_pb2.PutRequest
    delete_range: _rpc_pb2.DeleteRangeRequest
    txn: _rpc_pb2.TxnRequest
    compaction: _rpc_pb2.CompactionRequest
    lease_grant: _rpc_pb2.LeaseGrantRequest
    lease_revoke: _rpc_pb2.LeaseRevokeRequest
    alarm: _rpc_pb2.AlarmRequest
    member_attributes: _member_pb2.MemberAttributesRequest
    member_update: _member_pb2.MemberUpdateRequest
    lease_checkpoint: LeaseCheckpointRequest
    cluster_version: ClusterVersionRequest
    token_add: _token_pb2.TokenAddRequest
    token_spend: _token_pb2.TokenSpendRequest
    def __init__(self, id: _Optional[int] = ..., decided_in_term: _Optional[int] = ..., put: _Optional[_Union[_rpc_pb2.PutRequest, _Mapping]] = ..., delete_range: _Optional[_Union[_rpc_pb2.DeleteRangeRequest, _Mapping]] = ..., txn: _Optional[_Union[_rpc_pb2.TxnRequest, _Mapping]] = ..., compaction: _Optional[_Union[_rpc_pb2.CompactionRequest, _Mapping]] = ..., lease_grant: _Optional[_Union[_rpc_pb2.LeaseGrantRequest, _Mapping]] = ..., lease_revoke: _Optional[_Union[_rpc_pb2.LeaseRevokeRequest, _Mapping]] = ..., alarm: _Optional[_Union[_rpc_pb2.AlarmRequest, _Mapping]] = ..., member_attributes: _Optional[_Union[_member_pb2.MemberAttributesRequest, _Mapping]] = ..., member_update: _Optional[_Union[_member_pb2.MemberUpdateRequest, _Mapping]] = ..., lease_checkpoint: _Optional[_Union[LeaseCheckpointRequest, _Mapping]] = ..., cluster_version: _Optional[_Union[ClusterVersionRequest, _Mapping]] = ..., token_add: _Optional[_Union[_token_pb2.TokenAddRequest, _Mapping]] = ..., token_spend: _Optional[_Union[_token_pb2.TokenSpendRequest, _Mapping]] = ...) -> None: ...

class LeaseCheckpointRequest(_message.Message):
    __slots__ = ("leases",)
    class Lease(_message.Message):
        __slots__ = ("id", "remaining_ttl")
        ID_FIELD_NUMBER: _ClassVar[int]
        REMAINING_TTL_FIELD_NUMBER: _ClassVar[int]
        id: int
        remaining_ttl: int
        def __init__(self, id: _Optional[int] = ..., remaining_ttl: _Optional[int] = ...) -> None: ...
    LEASES_FIELD_NUMBER: _ClassVar[int]
    leases: _containers.RepeatedCompositeFieldContainer[LeaseCheckpointRequest.Lease]
    def __init__(self, leases: _Optional[_Iterable[_Union[LeaseCheckpointRequest.Lease, _Mapping]]] = ...) -> None: ...

class LeaseCheckpointResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ClusterVersionRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class ClusterVersionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
