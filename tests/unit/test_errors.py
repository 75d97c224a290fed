"""What a caller is told of an error: its words, filled in, and what is wrong in which field."""

from __future__ import annotations

from gateway.server.core.errors import (
    ClusterNotFound,
    FieldInvalid,
    NotPermitted,
    Overloaded,
    QuotaExceeded,
    ServiceError,
    Violation,
)


def test_the_words_of_an_error_are_filled_in() -> None:
    assert str(NotPermitted()) == "You may not do this, or there is nothing here that you may see."
    error = ClusterNotFound(metadata={"name": "users/alice/clusters/etl"})
    assert str(error) == "You have no cluster users/alice/clusters/etl."
    assert error.metadata == {"name": "users/alice/clusters/etl"}
    assert (error.violations, error.quotas, error.retry_after_s) == ((), (), None)
    assert (
        str(Overloaded(metadata={"what": "Too many calls"}, retry_after_s=1.5))
        == "Too many calls; try again later."
    )
    assert str(ServiceError()) == "The call failed."
    assert ServiceError().metadata == {}


def test_every_field_that_is_wrong_is_told() -> None:
    wrong = [Violation("name", "must be a text"), Violation("labels", "must have at most 32 pairs")]
    error = FieldInvalid(wrong)
    assert str(error) == "name: must be a text; labels: must have at most 32 pairs"
    assert error.violations == tuple(wrong)
    assert (error.code, error.reason, error.metadata) == ("INVALID_ARGUMENT", "FIELD_INVALID", {})


def test_whose_quota_is_exceeded_is_told() -> None:
    error = QuotaExceeded("alice", "you have 3 clusters, and no more may run", 2.0)
    assert str(error) == "you have 3 clusters, and no more may run."
    assert error.quotas == (Violation("users/alice", "you have 3 clusters, and no more may run"),)
    assert (error.violations, error.retry_after_s) == ((), 2.0)
