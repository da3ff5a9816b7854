"""Jobs that are made while others run: a feed is asked for the next one when a worker is free."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias, TypeVar

from layerlake.store.errors import InvalidInput

J = TypeVar("J")


class NoJob(Enum):
    """What a feed returns when it has no job to hand out."""

    YET = "yet"
    """The next one depends on jobs that are running; the feed is asked again when one has ended."""
    LEFT = "left"
    """There are no more; the feed is not asked again."""


Feed: TypeAlias = Callable[[], J | NoJob]
"""Returns the next job, or why there is none; called in the thread that reads the results."""


def next_job(feed: Feed[J], *, running: bool) -> J | NoJob:
    """Ask a feed for its next job.

    Parameters
    ----------
    feed
        The feed.
    running
        Whether a job that it handed out has not ended yet.

    Raises
    ------
    InvalidInput
        The feed waits, and there is nothing to wait for.
    """
    answer = feed()
    if answer is NoJob.YET and not running:
        raise InvalidInput(
            "the feed of jobs returned NoJob.YET while no job was running; return a job, or "
            "NoJob.LEFT when there are no more"
        )
    return answer
