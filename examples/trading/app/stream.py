"""Redis: the client, and the stream of orders."""

from collections.abc import Iterable
from typing import cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orders import Order
from settings import STREAM, STREAM_MAXLEN, RedisSettings

PAGE = 1000

Entry = tuple[str, dict[str, str]]
# The client's type for what goes out, wider than what we send.
Value = bytes | bytearray | memoryview | str | int | float
Fields = dict[Value, Value]


def connect(
    settings: RedisSettings, *, timeout_seconds: float = 5, one_connection: bool = False
) -> Redis:
    """A client without silent retries; with `one_connection` none that reconnects silently either.

    A server that comes back may hold older data, and the worker has to look at the stream again.
    """
    return Redis(
        host=settings.host,
        port=settings.port,
        password=settings.password,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=one_connection,
        decode_responses=True,
        protocol=2,
    )


def publish(client: Redis, order: Order) -> None:
    client.xadd(
        STREAM,
        {
            "order_id": order.id,
            "worker": order.worker,
            "seq": order.seq,
            "symbol": order.symbol,
            "side": order.side,
            "quantity": order.quantity,
            "price": str(order.price),
        },
        maxlen=STREAM_MAXLEN,
        approximate=True,
    )


def publish_all(client: Redis, orders: Iterable[Order]) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for order in orders:
            publish(pipeline, order)
        pipeline.execute()


def last_published(client: Redis, worker: int) -> int:
    """The worker's latest seq that the stream holds, 0 for none."""
    newest = "+"
    while entries := cast(list[Entry], client.xrevrange(STREAM, max=newest, count=PAGE)):
        for entry_id, fields in entries:
            if fields.get("worker") == str(worker):
                return int(fields["seq"])
            newest = f"({entry_id}"
    return 0
