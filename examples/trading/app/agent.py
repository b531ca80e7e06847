"""Consumes the stream of orders as one of a group.

Some orders are held back at first, as if an agent had been interrupted, and claimed later; some
fail every time and go to the dead letters. So the group always has pending entries.
"""

import threading
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import cast

from redis import RedisError, ResponseError

import health
import stream
from runtime import Outage, run
from settings import DEAD_MAXLEN, DEAD_STREAM, GROUP, STREAM, AgentSettings, leave_root
from stream import Entry, Fields

BATCH = 100
MAX_DELIVERIES = 3
CLAIM_EVERY_SECONDS = 1.0
RETRY_SECONDS = 0.5


def _divides(every: int, entry: Entry) -> bool:
    return int(entry[1].get("order_id", "0")) % every == 0


class Agent:
    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._client = stream.connect(settings.redis)

    def run(self, stop: threading.Event) -> None:
        outage = Outage("agent")
        while not stop.is_set():
            try:
                # Each time: the group is gone after a flush or the restore of an older state.
                self._create_group()
                outage.ends()
                self._consume(stop)
            except RedisError as error:
                outage.begins(error)
                stop.wait(RETRY_SECONDS)

    def _create_group(self) -> None:
        try:
            self._client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _consume(self, stop: threading.Event) -> None:
        claim_at = 0.0
        while not stop.is_set():
            if monotonic() >= claim_at:
                self._claim()
                claim_at = monotonic() + CLAIM_EVERY_SECONDS
            answer = self._client.xreadgroup(
                GROUP, self._settings.consumer, {STREAM: ">"}, count=BATCH, block=500
            )
            for _, entries in cast(list[tuple[str, list[Entry]]], answer or []):
                held = self._settings.hold_every
                self._process([entry for entry in entries if not _divides(held, entry)], {})

    def _claim(self) -> None:
        """Take over what nobody acknowledged in time."""
        cursor = "0-0"
        while True:
            answer = self._client.xautoclaim(
                STREAM,
                GROUP,
                self._settings.consumer,
                self._settings.claim_after_seconds * 1000,
                start_id=cursor,
                count=BATCH,
            )
            cursor, entries, *_ = cast(tuple[str, list[Entry]], answer)
            if entries:
                self._process(entries, self._deliveries(entries))
            if cursor == "0-0":
                return

    def _deliveries(self, entries: list[Entry]) -> dict[str, int]:
        """How often each has been delivered, this time included."""
        with self._client.pipeline(transaction=False) as pipeline:
            for entry_id, _ in entries:
                pipeline.xpending_range(STREAM, GROUP, min=entry_id, max=entry_id, count=1)
            answers = cast(list[list[dict[str, str | int]]], pipeline.execute())
        items = [item for answer in answers for item in answer]
        return {str(item["message_id"]): int(item["times_delivered"]) for item in items}

    def _process(self, entries: list[Entry], deliveries: Mapping[str, int]) -> None:
        """Count and acknowledge in one transaction: no order counts twice, none is forgotten."""
        done: list[str] = []
        with self._client.pipeline() as pipeline:
            for entry_id, fields in entries:
                if not _divides(self._settings.poison_every, (entry_id, fields)):
                    pipeline.zincrby("traded", int(fields["quantity"]), fields["symbol"])
                    pipeline.hincrby("agents:processed", fields["side"], 1)
                    done.append(entry_id)
                    continue
                pipeline.hincrby("agents:processed", "failed", 1)
                if deliveries.get(entry_id, 1) >= MAX_DELIVERIES:
                    letter: Fields = {"entry": entry_id, "deliveries": deliveries[entry_id]}
                    letter.update(fields)
                    pipeline.xadd(DEAD_STREAM, letter, maxlen=DEAD_MAXLEN, approximate=True)
                    done.append(entry_id)
            if done:
                pipeline.xack(STREAM, GROUP, *done)
            pipeline.execute()


def main() -> None:
    settings = AgentSettings()
    leave_root()
    probe = stream.connect(settings.redis, timeout_seconds=2)

    def redis_answers() -> None:
        probe.ping()

    run([partial(health.serve, {"redis": redis_answers}), Agent(settings).run])


if __name__ == "__main__":
    main()
