"""Where everything stands in the database: the tables, as SQLAlchemy Core. Instants are
milliseconds since the epoch."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

# Raised with every change of what is stored, a new field of a record too (tests/store/stored.py)
SCHEMA_VERSION = 9
# The oldest schema version whose programs may go on using this database: they pass over fields that
# they do not know, and what they write lacks them. Raised where that would do harm.
READABLE_SINCE = 6

metadata = MetaData()

cluster = Table(
    "cluster",
    metadata,
    Column("uid", String(21), primary_key=True),
    Column("owner", String(63), nullable=False),
    Column("cluster_id", String(63), nullable=False),
    Column("finished", Boolean, nullable=False),
    # whether its name is taken: until it is told to stop
    Column("holds_name", Boolean, nullable=False, server_default=text("0")),
    Column("revision", BigInteger, nullable=False),
    Column("created_revision", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    Index(
        "cluster_holds_name",
        "owner",
        "cluster_id",
        unique=True,
        sqlite_where=text("holds_name = 1"),
        postgresql_where=text("holds_name"),
    ),
    Index("cluster_by_name", "owner", "cluster_id", "created_revision"),
    Index("cluster_living", "finished"),
)

# apart from what changes with every step: a wish is written once for each time that it is wished
spec = Table(
    "spec",
    metadata,
    Column("uid", String(21), primary_key=True),
    Column("document", Text, nullable=False),
)

secret = Table(
    "secret",
    metadata,
    Column("uid", String(21), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

worker = Table(
    "worker",
    metadata,
    Column("uid", String(21), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column(
        "sequence",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("uid", String(21), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("reason", String(63), nullable=False),
    Column("message", Text, nullable=False),
    Column("instance", String(64), nullable=False),
    Index("event_of_cluster", "uid", "sequence"),
    sqlite_autoincrement=True,
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("user", String(63), primary_key=True),
    Column("method", String(63), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("uid", String(64), nullable=False),
    Column("at", BigInteger, nullable=False, index=True),
)

token = Table(
    "token",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user", String(63), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("document", Text, nullable=False),
    Index("token_of_user", "user", "created_at", "id"),
)

spent = Table(
    "spent",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user", String(63), nullable=False, index=True),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

tombstone = Table(
    "tombstone",
    metadata,
    Column("uid", String(21), primary_key=True),
    Column("owner", String(63), nullable=False),
    Column("cluster_id", String(63), nullable=False),
    Column("revision", BigInteger, nullable=False, index=True),
)

meta = Table(
    "meta",
    metadata,
    Column("key", String(63), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
