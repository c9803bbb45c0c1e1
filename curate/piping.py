"""A process of one's own that is asked things one after the other: pickles through its standard input and output.

Not those of multiprocessing: they would run the caller's script anew.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from curate.errors import CurateError


class ProcessEndedError(Exception):
    """The process is gone: killed, out of memory, or unable to begin."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(f"exit code {exit_code}")


class PipedProcess:
    """A process that runs a module which answers an `Owner`. It ends when this object or its owner does."""

    def __init__(self, module: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, question: Any) -> None:
        """Have it work on this meanwhile; ProcessEndedError if it is gone."""
        try:
            pickle.dump(question, self.process.stdin)  # type: ignore[arg-type]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except OSError as error:
            raise ProcessEndedError(self.process.wait()) from error

    def answer(self) -> Any:
        """Wait for what it says to the first question not yet answered, or what went wrong there."""
        try:
            return pickle.load(self.process.stdout)  # type: ignore[arg-type]
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise ProcessEndedError(self.process.wait()) from error

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self.process.kill()
        self.process.wait()

    def __del__(self) -> None:
        process = getattr(self, "process", None)
        if process is not None:
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):  # what could not be sent to a process that is gone
                    stream.close()
            self.stop()


class Owner:
    """The other end, in the process: whose questions there are to answer, until nobody asks any more."""

    def __init__(self) -> None:
        """Before anything else: what a library prints must not get among the answers."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's to answer
        self._answers = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

    def questions(self) -> Iterator[Any]:
        """One after the other."""
        while True:
            try:
                yield pickle.load(sys.stdin.buffer)
            except EOFError:
                return

    def answer(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Say what the work gives, or what went wrong with it."""
        try:
            said = work(*arguments)
        except CurateError as error:
            said = error
        except Exception as error:  # of any class, which may not be one that can be sent
            said = RuntimeError(f"{type(error).__name__}: {error}")
        try:
            pickle.dump(said, self._answers)
            self._answers.flush()
        except BrokenPipeError:
            os._exit(0)  # the owner is gone; an ordinary exit would complain of what it cannot write
