"""Places orders: the writer of Postgres and of the stream."""

from functools import partial

import health
import orders
import stream
from market import Market
from runtime import run
from settings import OrchestratorSettings, leave_root
from worker import Worker


def main() -> None:
    settings = OrchestratorSettings()
    leave_root()
    probe = stream.connect(settings.redis, timeout_seconds=2)

    def redis_answers() -> None:
        probe.ping()

    checks: dict[str, health.Check] = {
        "db": partial(orders.check, settings.postgres),
        "redis": redis_answers,
    }
    market = Market(settings.redis)
    workers = [Worker(number, settings, market) for number in range(1, settings.workers + 1)]
    run([partial(health.serve, checks), market.run, *(worker.run for worker in workers)])


if __name__ == "__main__":
    main()
