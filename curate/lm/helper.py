"""What a helper process runs: it loads a model, then computes losses until nobody asks any more."""

from __future__ import annotations

import os
import pickle
import signal
import sys

from curate.errors import CurateError


def main() -> None:
    """Reads (arguments of load_model, threads), then (pairs, token budget) again and again.

    Writes a list of losses each time, or what went wrong.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is its owner's to answer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get among the answers
    arguments, threads = pickle.load(sys.stdin.buffer)

    import torch

    from curate.lm.answer_loss import answer_losses
    from curate.lm.load import load_model

    torch.set_num_threads(threads)
    loaded = None
    while True:
        try:
            pairs, token_budget = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            loaded = loaded or load_model(**arguments)
            result: object = answer_losses(loaded, pairs, token_budget)
        except CurateError as error:
            result = error
        except Exception as error:  # of any class, which may not be one that can be sent
            result = RuntimeError(f"{type(error).__name__}: {error}")
        try:
            pickle.dump(result, answers)
            answers.flush()
        except BrokenPipeError:
            os._exit(0)  # its owner is gone; an ordinary exit would complain of what it cannot write


if __name__ == "__main__":
    main()
