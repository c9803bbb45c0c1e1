"""Whether an answer is right: the paper's containment, and the two measures of SQuAD beside it."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence


def contains_answer(output: str, answers: Sequence[str]) -> bool:
    """Paper B.2: some accepted answer, lower-cased and stripped, is contained in the lower-cased output.

    An empty answer never counts, since every text contains it.
    """
    said = output.lower().strip()
    return any(answer in said for answer in (a.lower().strip() for a in answers) if answer)


def exact_match(output: str, answers: Sequence[str]) -> bool:
    """Whether the output equals some accepted answer after SQuAD normalisation."""
    return any(normalise(output) == normalise(answer) for answer in answers if normalise(answer))


def token_f1(output: str, answers: Sequence[str]) -> float:
    """The best token F1 against any accepted answer after SQuAD normalisation, in [0, 1]."""
    return max((_f1(normalise(output).split(), normalise(answer).split()) for answer in answers), default=0.0)


def normalise(text: str) -> str:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    lowered = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", lowered).split())


def _f1(said: list[str], right: list[str]) -> float:
    common = sum((Counter(said) & Counter(right)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(said), common / len(right)
    return 2 * precision * recall / (precision + recall)
