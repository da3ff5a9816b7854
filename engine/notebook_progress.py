"""Bars in a notebook: nothing for short work, a bar while it lasts, one line when it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Final

from layerlake.engine.progress import ProgressEvent, Stage, to_function

SHOW_AFTER_SECONDS: Final = 2.0
"""Work that takes less shows nothing."""

UPDATE_SECONDS: Final = 0.25


@contextmanager
def to_notebook(label: str, total: int | None, unit: str) -> Iterator[Stage]:
    """Show a bar below the cell that runs; once the work is done, a line with its time.

    The bar is a widget where ipywidgets is installed, else HTML. Neither writes to stdout.
    """
    with to_function(_Cell(), min_seconds=UPDATE_SECONDS)(label, total, unit) as stage:
        yield stage


class _Cell:
    """What the cell shows of one stage: takes its events, one at a time."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._widget: Any = None

    def __call__(self, event: ProgressEvent) -> None:
        ended = event.state in ("finished", "failed")
        if self._handle is None:
            if not ended and event.seconds >= SHOW_AFTER_SECONDS:
                self._begin(event)
        elif ended:
            # A saved notebook keeps this line; a widget would be dead in it.
            self._handle.update(_Shown(event))
            if self._widget is not None:
                self._widget.close()
        elif self._widget is not None:
            self._widget.move(event)
        else:
            self._handle.update(_Shown(event))

    def _begin(self, event: ProgressEvent) -> None:
        from IPython.display import display

        try:
            self._widget = _Widget(event)
        except ImportError:
            self._widget = None
        shown = _Shown(event) if self._widget is None else self._widget.box
        self._handle = display(shown, display_id=True)  # type: ignore[no-untyped-call]


class _Shown:
    """An event as HTML, and as text where there is no HTML."""

    def __init__(self, event: ProgressEvent) -> None:
        self._event = event

    def __repr__(self) -> str:
        return _line(self._event)

    def _repr_html_(self) -> str:
        event = self._event
        if event.state in ("finished", "failed"):
            bar = ""
        elif event.total:
            bar = (
                f'<progress value="{min(event.done, event.total)}" max="{event.total}"></progress> '
            )
        else:
            bar = "<progress></progress> "
        return f"<small>{bar}{escape(_line(event))}</small>"


class _Widget:
    """A bar and its text in ipywidgets; raises ImportError without it."""

    def __init__(self, event: ProgressEvent) -> None:
        import ipywidgets

        total = event.total or 1
        self._bar = ipywidgets.IntProgress(min=0, max=total, bar_style="")
        self._text = ipywidgets.Label()
        self.box = ipywidgets.HBox([self._bar, self._text])
        self.move(event)

    def move(self, event: ProgressEvent) -> None:
        """Show how far the work is; a full bar that is no success where that is not known."""
        if event.total:
            self._bar.value = min(event.done, event.total)
        else:
            self._bar.value, self._bar.bar_style = 1, "info"
        self._text.value = _line(event)

    def close(self) -> None:
        """Let go of the widgets."""
        for widget in (self._bar, self._text, self.box):
            widget.close()


def _line(event: ProgressEvent) -> str:
    """Say how far the work is, or how it ended."""
    done = f"{event.done:,} {event.unit}"
    if event.state == "finished":
        return f"{event.label}: {done} in {_duration(event.seconds)}"
    if event.total:
        done = f"{event.done:,} of {event.total:,} {event.unit}"
    if event.state == "failed":
        return f"{event.label}: stopped after {done}, {_duration(event.seconds)}"
    text = f"{event.label}: {done}, {_duration(event.seconds)}"
    if event.total and event.done:
        left = event.seconds / event.done * max(event.total - event.done, 0)
        text += f", about {_duration(left)} left"
    return f"{text}; {event.note}" if event.note else text


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02} min"
