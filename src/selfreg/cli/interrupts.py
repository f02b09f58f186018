"""SIGINT and SIGTERM end a command soon, wherever it is, and leave no file, folder or process behind.

Python raises KeyboardInterrupt in the main thread between two instructions. That is late while a kernel computes, and
never where a library drops the exception. So a thread gets the signal too, and ends the process if the main thread has
not come out in time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType

from selfreg._util.ending import ENDING

# Seconds that the main thread has to come out by itself.
GRACE = 1.5
NAMES: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
STATUS = 128


class Interrupts:
    """Handles the signals while a command runs, where this is the main thread and nobody else handles them.

    `program`: the process ends with the command. Otherwise the earlier handlers are put back.
    """

    def __init__(self, program: bool) -> None:
        self.number: int | None = None
        self._program = program
        self._over = threading.Event()
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in NAMES:
            before = signal.getsignal(number)
            if before in (signal.default_int_handler, signal.SIG_DFL):  # not where a shell ignores it in the background
                self._before[number] = before
        if self._before:
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._watch, daemon=True).start()
            self._hook, sys.unraisablehook = sys.unraisablehook, self._report
        for number in self._before:
            signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                # All is done: a signal that comes now does not print a traceback of the interpreter's end.
                signal.signal(number, signal.SIG_IGN if self._program else before)  # type: ignore[arg-type]
        self._over.set()
        ENDING.clear()
        if self._before:
            signal.set_wakeup_fd(self._wakeup)
            self._writer.close()
            sys.unraisablehook = self._hook

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            ENDING.set()
            raise KeyboardInterrupt

    def _report(self, dropped: sys.UnraisableHookArgs) -> None:
        """As Python does, but for an interrupt that came within a callback and was dropped there: no traceback."""
        if self.number is None or not issubclass(dropped.exc_type, KeyboardInterrupt):
            self._hook(dropped)

    def _watch(self) -> None:
        """Ends the process `GRACE` seconds after a signal that `_handle` handles, if the command still runs."""
        with self._reader:
            while data := self._reader.recv(16):
                numbers = [number for number in data if number in NAMES and signal.getsignal(number) == self._handle]
                if numbers and not self._over.wait(GRACE):
                    self.number = numbers[0]
                    self.end()

    def end(self) -> None:
        """Remove what is unfinished, end all processes that this one started, and the process itself."""
        from selfreg._util.files import remove_unfinished

        _kill_children()
        remove_unfinished()
        number = self.number or signal.SIGINT
        print(f"selfreg: {NAMES[number]}", file=sys.stderr, flush=True)
        os._exit(STATUS + number)


def _kill_children() -> None:
    """Kill the processes of multiprocessing, on Linux also one that just starts and is not listed yet.

    That one would print a traceback, since it never gets what it waits for.
    """
    import multiprocessing

    for child in multiprocessing.active_children():
        child.kill()
    for pid in _list_children():
        with contextlib.suppress(OSError):  # it may have ended
            if b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def _list_children() -> list[int]:
    """Processes that this one started, by Linux; none elsewhere."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread may have ended
            found += [int(pid) for pid in path.read_text(encoding="ascii").split()]
    return found
