"""Made-up prices, published to Redis as keys that expire."""

import random
import threading
from decimal import Decimal

from redis import Redis, RedisError

import stream
from runtime import Outage
from settings import RedisSettings

PRICE_SECONDS = 60
TICK = Decimal("0.0001")


class Market:
    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._random = random.Random()
        self._prices: dict[str, Decimal] = {}

    def quote(self, symbol: str, reference: Decimal) -> Decimal:
        """The next price: a walk that is drawn back to the reference."""
        price = self._prices.get(symbol, reference)
        step = Decimal(repr(self._random.gauss(0, 0.001))) * price + (reference - price) / 500
        price = max(TICK, (price + step).quantize(TICK))
        self._prices[symbol] = price
        return price

    def run(self, stop: threading.Event) -> None:
        client = stream.connect(self._settings)
        outage = Outage("market")
        while not stop.wait(1):
            try:
                self._publish(client)
                outage.ends()
            except RedisError as error:
                outage.begins(error)

    def _publish(self, client: Redis) -> None:
        prices = {symbol: str(price) for symbol, price in self._prices.copy().items()}
        if not prices:
            return
        with client.pipeline() as pipeline:
            for symbol, price in prices.items():
                pipeline.set(f"price:{symbol}", price, ex=PRICE_SECONDS)
                pipeline.hset("market:last", symbol, price)
            pipeline.execute()
