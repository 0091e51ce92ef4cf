"""Ctrl-C that loses nothing: every trial finishes its iteration and saves itself, then all stops.

Tune's own handling of Ctrl-C ends the experiment at once, and trials go on later from their last periodic
checkpoint. Here the first signal only asks; `iquitos_rl.training.session` then lets each trial finish its
iteration and save itself before Tune is told to end. A second signal ends at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["GracefulStop", "stop_gracefully_on_signals"]


class GracefulStop:
    """Whether the user asked to stop. ``on_request`` is called when that happens."""

    def __init__(self, on_request: Callable[[], None] | None = None) -> None:
        self.requested = False
        self._on_request = on_request

    def request(self) -> None:
        """Ask for a stop."""
        self.requested = True
        if self._on_request is not None:
            self._on_request()


@contextmanager
def stop_gracefully_on_signals(stop: GracefulStop) -> Iterator[None]:
    """Let SIGINT and SIGTERM ask for a stop; the second one interrupts at once.

    Outside the main thread, where Python allows no signal handlers, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.request()

    # Tune would replace our handler by its own, which does not wait for checkpoints.
    disabled = os.environ.get("TUNE_DISABLE_SIGINT_HANDLER")
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    for number in previous:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if disabled is None:
            del os.environ["TUNE_DISABLE_SIGINT_HANDLER"]
        else:
            os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = disabled
