from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AccessVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCESS_VERDICT_UNSPECIFIED: _ClassVar[AccessVerdict]
    ACCESS_VERDICT_ALLOWED: _ClassVar[AccessVerdict]
    ACCESS_VERDICT_DENIED: _ClassVar[AccessVerdict]
ACCESS_VERDICT_UNSPECIFIED: AccessVerdict
ACCESS_VERDICT_ALLOWED: AccessVerdict
ACCESS_VERDICT_DENIED: AccessVerdict

class Access(_message.Message):
    __slots__ = ("uid", "user", "token_id", "stamp", "admin", "session_id", "expires_at_ms")
    UID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    STAMP_FIELD_NUMBER: _ClassVar[int]
    ADMIN_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    uid: str
    user: str
    token_id: str
    stamp: str
    admin: bool
    session_id: str
    expires_at_ms: int
    def __init__(self, uid: _Optional[str] = ..., user: _Optional[str] = ..., token_id: _Optional[str] = ..., stamp: _Optional[str] = ..., admin: _Optional[bool] = ..., session_id: _Optional[str] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...

class BeginLoginRequest(_message.Message):
    __slots__ = ("way", "goes_to")
    WAY_FIELD_NUMBER: _ClassVar[int]
    GOES_TO_FIELD_NUMBER: _ClassVar[int]
    way: str
    goes_to: str
    def __init__(self, way: _Optional[str] = ..., goes_to: _Optional[str] = ...) -> None: ...

class BeginLoginResponse(_message.Message):
    __slots__ = ("url", "sealed", "redirect_uri", "refused")
    URL_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_URI_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    url: str
    sealed: str
    redirect_uri: str
    refused: str
    def __init__(self, url: _Optional[str] = ..., sealed: _Optional[str] = ..., redirect_uri: _Optional[str] = ..., refused: _Optional[str] = ...) -> None: ...

class CheckAccessRequest(_message.Message):
    __slots__ = ("accesses",)
    ACCESSES_FIELD_NUMBER: _ClassVar[int]
    accesses: _containers.RepeatedCompositeFieldContainer[Access]
    def __init__(self, accesses: _Optional[_Iterable[_Union[Access, _Mapping]]] = ...) -> None: ...

class CheckAccessResponse(_message.Message):
    __slots__ = ("verdicts",)
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedScalarFieldContainer[AccessVerdict]
    def __init__(self, verdicts: _Optional[_Iterable[_Union[AccessVerdict, str]]] = ...) -> None: ...

class EndSessionRequest(_message.Message):
    __slots__ = ("access",)
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    access: Access
    def __init__(self, access: _Optional[_Union[Access, _Mapping]] = ...) -> None: ...

class EndSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FinishLoginRequest(_message.Message):
    __slots__ = ("way", "sealed", "answer", "address")
    class AnswerEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WAY_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    way: str
    sealed: str
    answer: _containers.ScalarMap[str, str]
    address: str
    def __init__(self, way: _Optional[str] = ..., sealed: _Optional[str] = ..., answer: _Optional[_Mapping[str, str]] = ..., address: _Optional[str] = ...) -> None: ...

class FinishLoginResponse(_message.Message):
    __slots__ = ("secret", "expires_at_ms", "goes_to", "refused")
    SECRET_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    GOES_TO_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    secret: str
    expires_at_ms: int
    goes_to: str
    refused: str
    def __init__(self, secret: _Optional[str] = ..., expires_at_ms: _Optional[int] = ..., goes_to: _Optional[str] = ..., refused: _Optional[str] = ...) -> None: ...

class ListLoginPagesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListLoginPagesResponse(_message.Message):
    __slots__ = ("pages", "passwords")
    PAGES_FIELD_NUMBER: _ClassVar[int]
    PASSWORDS_FIELD_NUMBER: _ClassVar[int]
    pages: _containers.RepeatedCompositeFieldContainer[LoginPage]
    passwords: bool
    def __init__(self, pages: _Optional[_Iterable[_Union[LoginPage, _Mapping]]] = ..., passwords: _Optional[bool] = ...) -> None: ...

class LoginPage(_message.Message):
    __slots__ = ("way", "description", "at_once")
    WAY_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    AT_ONCE_FIELD_NUMBER: _ClassVar[int]
    way: str
    description: str
    at_once: bool
    def __init__(self, way: _Optional[str] = ..., description: _Optional[str] = ..., at_once: _Optional[bool] = ...) -> None: ...

class RedeemTicketRequest(_message.Message):
    __slots__ = ("ticket",)
    TICKET_FIELD_NUMBER: _ClassVar[int]
    ticket: str
    def __init__(self, ticket: _Optional[str] = ...) -> None: ...

class RedeemTicketResponse(_message.Message):
    __slots__ = ("access",)
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    access: Access
    def __init__(self, access: _Optional[_Union[Access, _Mapping]] = ...) -> None: ...
