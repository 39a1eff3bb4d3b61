from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Token(_message.Message):
    __slots__ = ("id", "verifier", "expires_ms", "renews", "spent_by")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    RENEWS_FIELD_NUMBER: _ClassVar[int]
    SPENT_BY_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    verifier: bytes
    expires_ms: int
    renews: int
    spent_by: bytes
    def __init__(self, id: _Optional[bytes] = ..., verifier: _Optional[bytes] = ..., expires_ms: _Optional[int] = ..., renews: _Optional[int] = ..., spent_by: _Optional[bytes] = ...) -> None: ...

class Tokens(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[Token]
    def __init__(self, tokens: _Optional[_Iterable[_Union[Token, _Mapping]]] = ...) -> None: ...

class TokenAddRequest(_message.Message):
    __slots__ = ("token", "now_ms")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    token: Token
    now_ms: int
    def __init__(self, token: _Optional[_Union[Token, _Mapping]] = ..., now_ms: _Optional[int] = ...) -> None: ...

class TokenAddResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TokenSpendRequest(_message.Message):
    __slots__ = ("id", "spent_by", "now_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    SPENT_BY_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    spent_by: bytes
    now_ms: int
    def __init__(self, id: _Optional[bytes] = ..., spent_by: _Optional[bytes] = ..., now_ms: _Optional[int] = ...) -> None: ...

class TokenSpendResponse(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: Token
    def __init__(self, token: _Optional[_Union[Token, _Mapping]] = ...) -> None: ...
