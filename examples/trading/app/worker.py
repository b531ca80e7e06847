"""One worker: an order to Postgres, committed, then to the stream, and again.

So the database is ahead of the stream by at most one order per worker, at any instant. What an
interruption left out of the stream is sent when the worker comes back: nothing is lost, though
an agent may see an order twice.
"""

import random
import threading
from time import monotonic

import psycopg
from redis import Redis, RedisError

import orders
import stream
from market import Market
from runtime import Outage, log
from settings import STREAM_MAXLEN, OrchestratorSettings

RETRY_SECONDS = 0.5


class Worker:
    def __init__(self, number: int, settings: OrchestratorSettings, market: Market) -> None:
        self._number = number
        self._settings = settings
        self._market = market
        self._interval = settings.workers / settings.orders_per_second
        self._outage = Outage(f"worker {number}")
        self._random = random.Random()

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                with (
                    orders.connect(self._settings.postgres) as database,
                    stream.connect(self._settings.redis, one_connection=True) as client,
                ):
                    self._trade(database, client, stop)
            except (psycopg.Error, RedisError) as error:
                self._outage.begins(error)
                stop.wait(RETRY_SECONDS)

    def _trade(self, database: orders.Connection, client: Redis, stop: threading.Event) -> None:
        references = orders.reference_prices(database)
        symbols = sorted(references)
        seq = self._catch_up(database, client)
        due = monotonic()
        while not stop.is_set():
            seq += 1
            symbol = self._random.choice(symbols)
            order = orders.place(
                database,
                worker=self._number,
                seq=seq,
                symbol=symbol,
                side=self._random.choice(("buy", "sell")),
                quantity=self._random.randint(1, 500),
                price=self._market.quote(symbol, references[symbol]),
            )
            stream.publish(client, order)
            self._outage.ends()
            # Time lost in a pause is not made up for by a burst of orders.
            due = max(due + self._interval, monotonic())
            stop.wait(due - monotonic())

    def _catch_up(self, database: orders.Connection, client: Redis) -> int:
        """Send what the database has and the stream has not; returns the seq to go on from."""
        committed = orders.last_seq(database, self._number)
        published = stream.last_published(client, self._number)
        if published > committed:
            log.warning(
                "worker %d: the stream is at seq %d, the database at %d: one is older",
                self._number,
                published,
                committed,
            )
            return committed
        # More than this the stream would drop again at once.
        after = max(published, committed - STREAM_MAXLEN // self._settings.workers)
        while missing := orders.orders_after(database, self._number, after, stream.PAGE):
            stream.publish_all(client, missing)
            log.info("worker %d: sent %d orders again", self._number, len(missing))
            after = missing[-1].seq
        return after
