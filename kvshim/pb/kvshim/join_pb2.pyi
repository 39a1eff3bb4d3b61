from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChallengeRequest(_message.Message):
    __slots__ = ("token_id",)
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    token_id: bytes
    def __init__(self, token_id: _Optional[bytes] = ...) -> None: ...

class ChallengeAnswer(_message.Message):
    __slots__ = ("refusal", "nonce", "cluster_id", "member_id", "elsewhere")
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    ELSEWHERE_FIELD_NUMBER: _ClassVar[int]
    refusal: str
    nonce: bytes
    cluster_id: int
    member_id: int
    elsewhere: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, refusal: _Optional[str] = ..., nonce: _Optional[bytes] = ..., cluster_id: _Optional[int] = ..., member_id: _Optional[int] = ..., elsewhere: _Optional[_Iterable[str]] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("statement", "proof")
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    statement: bytes
    proof: bytes
    def __init__(self, statement: _Optional[bytes] = ..., proof: _Optional[bytes] = ...) -> None: ...

class JoinStatement(_message.Message):
    __slots__ = ("token_id", "nonce", "cluster_id", "member_id", "ca_fingerprint", "csr", "name", "peer_urls", "client_urls", "failure_domain")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    CA_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PEER_URLS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_URLS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    token_id: bytes
    nonce: bytes
    cluster_id: int
    member_id: int
    ca_fingerprint: str
    csr: bytes
    name: str
    peer_urls: _containers.RepeatedScalarFieldContainer[str]
    client_urls: _containers.RepeatedScalarFieldContainer[str]
    failure_domain: str
    def __init__(self, token_id: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., cluster_id: _Optional[int] = ..., member_id: _Optional[int] = ..., ca_fingerprint: _Optional[str] = ..., csr: _Optional[bytes] = ..., name: _Optional[str] = ..., peer_urls: _Optional[_Iterable[str]] = ..., client_urls: _Optional[_Iterable[str]] = ..., failure_domain: _Optional[str] = ...) -> None: ...

class JoinAnswer(_message.Message):
    __slots__ = ("refusal", "certificate", "ca_certificate", "cluster_id", "member_id", "members")
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CA_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    refusal: str
    certificate: bytes
    ca_certificate: bytes
    cluster_id: int
    member_id: int
    members: _containers.RepeatedCompositeFieldContainer[JoinedMember]
    def __init__(self, refusal: _Optional[str] = ..., certificate: _Optional[bytes] = ..., ca_certificate: _Optional[bytes] = ..., cluster_id: _Optional[int] = ..., member_id: _Optional[int] = ..., members: _Optional[_Iterable[_Union[JoinedMember, _Mapping]]] = ...) -> None: ...

class JoinedMember(_message.Message):
    __slots__ = ("id", "name", "peer_urls", "learner", "spare")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PEER_URLS_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    SPARE_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    peer_urls: _containers.RepeatedScalarFieldContainer[str]
    learner: bool
    spare: bool
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., peer_urls: _Optional[_Iterable[str]] = ..., learner: _Optional[bool] = ..., spare: _Optional[bool] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr",)
    CSR_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    def __init__(self, csr: _Optional[bytes] = ...) -> None: ...

class RenewAnswer(_message.Message):
    __slots__ = ("refusal", "certificate")
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    refusal: str
    certificate: bytes
    def __init__(self, refusal: _Optional[str] = ..., certificate: _Optional[bytes] = ...) -> None: ...

class CaKeyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CaKeyAnswer(_message.Message):
    __slots__ = ("refusal", "key")
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    refusal: str
    key: bytes
    def __init__(self, refusal: _Optional[str] = ..., key: _Optional[bytes] = ...) -> None: ...
