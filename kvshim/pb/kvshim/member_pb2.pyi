from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Member(_message.Message):
    __slots__ = ("id", "name", "peer_urls", "client_urls", "learner", "managed", "failure_domain", "spare")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PEER_URLS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_URLS_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    MANAGED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    SPARE_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    peer_urls: _containers.RepeatedScalarFieldContainer[str]
    client_urls: _containers.RepeatedScalarFieldContainer[str]
    learner: bool
    managed: bool
    failure_domain: str
    spare: bool
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., peer_urls: _Optional[_Iterable[str]] = ..., client_urls: _Optional[_Iterable[str]] = ..., learner: _Optional[bool] = ..., managed: _Optional[bool] = ..., failure_domain: _Optional[str] = ..., spare: _Optional[bool] = ...) -> None: ...

class Members(_message.Message):
    __slots__ = ("members", "removed")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    removed: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., removed: _Optional[_Iterable[int]] = ...) -> None: ...

class RoleNumbers(_message.Message):
    __slots__ = ("voters", "standbys")
    VOTERS_FIELD_NUMBER: _ClassVar[int]
    STANDBYS_FIELD_NUMBER: _ClassVar[int]
    voters: int
    standbys: int
    def __init__(self, voters: _Optional[int] = ..., standbys: _Optional[int] = ...) -> None: ...

class RoleNumbersRequest(_message.Message):
    __slots__ = ("numbers", "first")
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    numbers: RoleNumbers
    first: bool
    def __init__(self, numbers: _Optional[_Union[RoleNumbers, _Mapping]] = ..., first: _Optional[bool] = ...) -> None: ...

class RoleNumbersResponse(_message.Message):
    __slots__ = ("numbers",)
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    numbers: RoleNumbers
    def __init__(self, numbers: _Optional[_Union[RoleNumbers, _Mapping]] = ...) -> None: ...

class SpareRequest(_message.Message):
    __slots__ = ("add", "remove")
    ADD_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    add: Member
    remove: int
    def __init__(self, add: _Optional[_Union[Member, _Mapping]] = ..., remove: _Optional[int] = ...) -> None: ...

class MemberChange(_message.Message):
    __slots__ = ("id", "member")
    ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    id: int
    member: Member
    def __init__(self, id: _Optional[int] = ..., member: _Optional[_Union[Member, _Mapping]] = ...) -> None: ...

class MemberAttributesRequest(_message.Message):
    __slots__ = ("id", "name", "client_urls", "failure_domain")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_URLS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    client_urls: _containers.RepeatedScalarFieldContainer[str]
    failure_domain: str
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., client_urls: _Optional[_Iterable[str]] = ..., failure_domain: _Optional[str] = ...) -> None: ...

class MemberAttributesResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MemberUpdateRequest(_message.Message):
    __slots__ = ("id", "peer_urls")
    ID_FIELD_NUMBER: _ClassVar[int]
    PEER_URLS_FIELD_NUMBER: _ClassVar[int]
    id: int
    peer_urls: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[int] = ..., peer_urls: _Optional[_Iterable[str]] = ...) -> None: ...

class MembersResponse(_message.Message):
    __slots__ = ("members",)
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class ClusterInfo(_message.Message):
    __slots__ = ("cluster_id", "members")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    cluster_id: int
    members: Members
    def __init__(self, cluster_id: _Optional[int] = ..., members: _Optional[_Union[Members, _Mapping]] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("state", "attributes", "format_version")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    state: bytes
    attributes: MemberAttributesRequest
    format_version: int
    def __init__(self, state: _Optional[bytes] = ..., attributes: _Optional[_Union[MemberAttributesRequest, _Mapping]] = ..., format_version: _Optional[int] = ...) -> None: ...

class FollowAnswer(_message.Message):
    __slots__ = ("state", "applied_index", "leader_id", "members")
    STATE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    state: bytes
    applied_index: int
    leader_id: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, state: _Optional[bytes] = ..., applied_index: _Optional[int] = ..., leader_id: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...
