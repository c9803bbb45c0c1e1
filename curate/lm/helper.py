"""What a helper process runs: it loads a model, then computes losses until nobody asks any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from curate.piping import Owner

if TYPE_CHECKING:
    from curate.lm.loss import AnswerLoss


def main() -> None:
    """Is asked with (arguments of load_model, threads), then with (pairs, token budget) again and again.

    Answers with a list of losses each time but the first.
    """
    owner = Owner()
    questions = owner.questions()
    arguments, threads = next(questions)

    import torch

    from curate.lm.loss import answer_losses
    from curate.lm.model import load_model

    torch.set_num_threads(threads)
    loaded = None

    def losses(pairs: Sequence[tuple[str, str]], token_budget: int | None) -> list[AnswerLoss]:
        nonlocal loaded
        loaded = loaded or load_model(**arguments)
        return answer_losses(loaded, pairs, token_budget)

    for question in questions:
        owner.answer(losses, *question)


if __name__ == "__main__":
    main()
