"""What gRPC answers, as the client's callers know it: messages that come one by one, and typed
errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from gateway.client.calls import errors

A = TypeVar("A", bound=Message)


class Stream(Iterator[A]):
    """Answers as they come; `close` ends the call."""

    def __init__(
        self,
        call: Any,
        refused: Callable[[errors.AuthenticationFailed], errors.AuthenticationFailed],
    ) -> None:
        self._call, self._refused = call, refused

    def __next__(self) -> A:
        try:
            answer: A = next(self._call)
            return answer
        except grpc.RpcError as error:
            told = from_grpc(error)
            if isinstance(told, errors.AuthenticationFailed):
                raise self._refused(told) from None
            raise told from None

    def close(self) -> None:
        """End the call."""
        self._call.cancel()

    def __enter__(self) -> Stream[A]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def from_grpc(error: Any) -> errors.GatewayError:
    """Return the typed error of one of gRPC's."""
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
    return errors.make(error.code().name, error.details() or "", status.details)
