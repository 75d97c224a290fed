"""How lists that the gateway answers page by page become one list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from daskgateway.v1 import cluster_service_pb2 as pb
from daskgateway.v1 import credential_service_pb2 as credential_pb

from gateway.client.calls import api, errors
from gateway.client.calls.channel import Connection
from gateway.client.model import Cluster, Event, Page, Token

CLUSTERS, EVENTS, TOKENS = 1000, 500, 500  # items of a page: as many as the gateway gives at once
MAX_PAGES = 1000  # of one list; a million clusters


class Paged(Protocol):
    """A request for one page."""

    page_token: str


class Answered(Protocol):
    """One page."""

    @property
    def next_page_token(self) -> str:
        """For the next page; empty on the last."""


Q = TypeVar("Q", bound=Paged)
A = TypeVar("A", bound=Answered)


def _pages(call: Callable[[Q], A], request: Q) -> Iterator[A]:
    for _ in range(MAX_PAGES):
        page = call(request)
        yield page
        if not page.next_page_token:
            return
        if page.next_page_token == request.page_token:
            raise errors.GatewayError(
                "the gateway's list does not end: its next page is the same again"
            )
        request.page_token = page.next_page_token
    raise errors.GatewayError(f"the gateway's list does not end after {MAX_PAGES} pages")


def clusters(connection: Connection, request: pb.ListClustersRequest) -> Page[Cluster]:
    """Return all clusters that a request asks for; a watch from the revision of the first page
    misses no change since."""
    pages = list(_pages(lambda asked: connection.call(api.LIST_CLUSTERS, asked), request))
    found = (Cluster.from_proto(one) for page in pages for one in page.clusters)
    return Page(Cluster, found, revision=pages[0].revision)


def events(connection: Connection, request: pb.ListEventsRequest) -> Page[Event]:
    """Return all events that a request asks for."""
    pages = _pages(lambda asked: connection.call(api.LIST_EVENTS, asked), request)
    return Page(Event, (Event.from_proto(one) for page in pages for one in page.events))


def tokens(connection: Connection, request: credential_pb.ListTokensRequest) -> Page[Token]:
    """Return all tokens that a request asks for."""
    pages = _pages(lambda asked: connection.call(api.LIST_TOKENS, asked), request)
    return Page(Token, (Token.from_proto(one) for page in pages for one in page.tokens))
