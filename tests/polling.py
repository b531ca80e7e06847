"""Waiting for what is to come."""

import time


def until(true, seconds=30, pause=0.05):
    """Poll; the last answer is given back, for the assert that follows."""
    end = time.monotonic() + seconds
    while not (answer := true()) and time.monotonic() < end:
        time.sleep(pause)
    return answer
