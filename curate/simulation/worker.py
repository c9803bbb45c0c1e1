"""What a worker process runs: one part of an experiment after another, until nobody asks for more."""

from __future__ import annotations

import os
import pickle
import signal
import sys


def main() -> None:
    """Reads what `make_part` takes, again and again; answers with None, or the exception it raised."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is its owner's to answer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get among the answers

    from curate.simulation.parts import make_part

    while True:
        try:
            part = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            make_part(part)
            answer = None
        except Exception as error:
            answer = error
        try:
            pickle.dump(answer, answers)
            answers.flush()
        except BrokenPipeError:
            os._exit(0)  # its owner is gone; an ordinary exit would complain of what it cannot write


if __name__ == "__main__":
    main()
