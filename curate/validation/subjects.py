"""Where in a prompt the subject of its question stands, in characters and in tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curate.lm.load import LoadedModel
from curate.records import Example


@dataclass(frozen=True, slots=True)
class SubjectPrompt:
    """A prompt as tokens, the positions of those that are part of the subject (never empty), and each token's text."""

    id: str
    ids: tuple[int, ...]
    subject: tuple[int, ...]
    texts: tuple[str, ...] = ()


def subject_spans(question: str, subject: str) -> list[tuple[int, int]]:
    """Characters (start, end) of every mention of the subject in the question; empty where there is none.

    A mention is a whole word with the subject's capitals; failing that in any capitals (`iPhone` for `Iphone`);
    failing that inside a word, since not every script puts spaces between words. Any white space matches any other.

    >>> subject_spans("In what city was It filmed?", "It")
    [(17, 19)]
    >>> subject_spans("who wrote the waste  land?", "The Waste Land")
    [(10, 25)]
    """
    words = r"\s+".join(map(re.escape, subject.split()))
    if not words:
        return []
    whole = rf"(?<!\w){words}(?!\w)"
    for pattern, flags in ((whole, 0), (whole, re.IGNORECASE), (words, 0)):
        found = [match.span() for match in re.finditer(pattern, question, flags)]
        if found:
            return found
    return []


def subject_prompts(
    loaded: LoadedModel, examples: Sequence[Example], prompts: Sequence[str]
) -> list[SubjectPrompt | None]:
    """Each example's prompt with the tokens of its subject, in order; None where attention to it has no meaning.

    That is so when the example has no subject, or choices (its subject is then a field of study, not an entity),
    when the question does not name the subject, or when the prompt is longer than the model's context. Every
    mention in the question counts; those in solved examples before it do not. A token is the subject's as soon as
    one of its characters is, by the tokenizer's offsets.
    """
    found: list[SubjectPrompt | None] = []
    for example, prompt in zip(examples, prompts, strict=True):
        start = prompt.rfind(example.question)
        spans = subject_spans(example.question, example.subject) if example.subject and not example.choices else []
        if start < 0 or not spans:
            found.append(None)
            continue
        encoded = loaded.tokenizer(prompt, return_offsets_mapping=True)
        tokens = tuple(
            position
            for position, (first, last) in enumerate(encoded["offset_mapping"])
            if any(max(first, start + a) < min(last, start + b) for a, b in spans)
        )
        if tokens and len(encoded["input_ids"]) <= loaded.context:
            texts = _texts(loaded, prompt, encoded)
            found.append(SubjectPrompt(example.id, tuple(encoded["input_ids"]), tokens, texts))
        else:
            found.append(None)
    return found


def _texts(loaded: LoadedModel, prompt: str, encoded: Any) -> tuple[str, ...]:
    """What of the prompt each token covers; a special token's name."""
    names = loaded.tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    offsets = encoded["offset_mapping"]
    return tuple(prompt[a:b] or name for (a, b), name in zip(offsets, names, strict=True))
