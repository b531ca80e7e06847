"""Orders in Postgres."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from settings import PostgresSettings

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the database and the stream both know of an order."""

    id: int
    worker: int
    seq: int
    symbol: str
    side: str
    quantity: int
    price: Decimal


def connect(settings: PostgresSettings, *, timeout_seconds: int = 3) -> Connection:
    return psycopg.connect(
        host=settings.host,
        port=settings.port,
        dbname=settings.database,
        user=settings.user,
        password=settings.password,
        connect_timeout=timeout_seconds,
        application_name="trading",
        options=f"-c statement_timeout={timeout_seconds * 1000}",
        autocommit=True,
    )


def check(settings: PostgresSettings) -> None:
    """A new session each time: one that is open would not see the database renamed or dropped."""
    with connect(settings, timeout_seconds=2) as connection:
        connection.execute("select 1 from orders limit 1")


def reference_prices(connection: Connection) -> dict[str, Decimal]:
    return dict(connection.execute("select symbol, reference_price from symbols").fetchall())


def last_seq(connection: Connection, worker: int) -> int:
    row = connection.execute(
        "select coalesce(max(seq), 0) from orders where worker = %s", (worker,)
    ).fetchone()
    return int(row[0]) if row else 0


def orders_after(connection: Connection, worker: int, seq: int, limit: int) -> list[Order]:
    with connection.cursor(row_factory=class_row(Order)) as cursor:
        return cursor.execute(
            "select id, worker, seq, symbol, side, quantity, price from orders"
            " where worker = %s and seq > %s order by seq limit %s",
            (worker, seq, limit),
        ).fetchall()


def place(
    connection: Connection,
    *,
    worker: int,
    seq: int,
    symbol: str,
    side: str,
    quantity: int,
    price: Decimal,
) -> Order:
    """Insert the order and its fill; committed when this returns."""
    with connection.transaction():
        row = connection.execute(
            "insert into orders (worker, seq, symbol, side, quantity, price, note, details)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s) returning id",
            (
                worker,
                seq,
                symbol,
                side,
                quantity,
                price,
                f"{side} {quantity} × {symbol} at {price}, worker {worker}'s no. {seq}",
                Jsonb({"desk": f"desk-{worker}", "tags": ["limit", symbol.lower()], "try": 1}),
            ),
        ).fetchone()
        if row is None:
            raise psycopg.DataError("the order came back without an id")
        # Every fourth order is filled by half.
        filled = quantity if seq % 4 else max(1, quantity // 2)
        connection.execute(
            "insert into fills (order_id, quantity, price) values (%s, %s, %s)",
            (row[0], filled, price),
        )
    return Order(
        id=row[0],
        worker=worker,
        seq=seq,
        symbol=symbol,
        side=side,
        quantity=quantity,
        price=price,
    )
