"""Questions that are asked twice: in the same words, or nearly."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.data.ambiguity import folded, repeated
from curate.data.columns import columns_read
from curate.data.stores import as_arrow
from curate.data.table import QATable
from curate.records import Example

ALIKE = 0.8
"""Of the groups of three letters that two questions have, the share in common from which they are nearly the same."""

WORD = re.compile(r"\w+")
HASHES, BANDS = 128, 32
"""Of MinHash: with so many, pairs that are ALIKE are found with a chance of 0.9999."""


def duplicates(data: QATable, near: bool = False) -> NDArray[np.int64]:
    """The number of each row's question among those asked more than once, -1 of all others. (N,)

    The same question, of the same choices, is one whatever its capitals and blanks. `near` ones have the first answer,
    all names and numbers, and the subject and relation where these are known, in common, and their letters but for a
    few: found with MinHash, and checked. If names could differ, questions of one kind would all be nearly the same.
    """
    numbers = np.full(len(data), -1, dtype=np.int64)
    for number, rows in enumerate(_near(data) if near else _exact(data)):
        numbers[rows] = number
    return numbers


def _exact(data: QATable) -> Iterator[list[int]]:
    rows = repeated(data, data.roles.question)
    table = data.table_of(data.roles.fields()).take(as_arrow(rows))
    return _blocks(
        (row, (folded(example.question), example.choices))
        for row, example in zip(rows.tolist(), data.examples_of(table), strict=True)
    )


def _blocks(keyed: Iterable[tuple[int, Hashable]]) -> Iterator[list[int]]:
    """Rows of the same key, where there are several."""
    blocks: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in keyed:
        blocks[key].append(row)
    return (rows for rows in blocks.values() if len(rows) > 1)


def _near(data: QATable) -> Iterator[list[int]]:
    batches = data.batches(columns_read(data.roles.fields(), data.schema.names))
    examples = [example for batch in batches for example in data.examples_of(batch)]
    for block in _blocks((row, _same(example)) for row, example in enumerate(examples) if example.question):
        yield from _alike(block, [_letters(examples[row].question) for row in block])


def _same(example: Example) -> Hashable:
    """What nearly the same questions must have in common: answer, subject, relation, choices, names and numbers."""
    words = WORD.findall(example.question)
    names = {word.casefold() for n, word in enumerate(words) if (n and word[0].isupper()) or word.isdigit()}
    roles = [folded(text or "") for text in (*example.answers[:1], example.subject, example.relation)]
    return (*roles, example.choices, frozenset(names))


def _letters(question: str) -> frozenset[str]:
    """All groups of three letters of a question, words apart by one blank."""
    text = f" {' '.join(WORD.findall(question.casefold()))} "
    return frozenset(text[n : n + 3] for n in range(len(text) - 2))


def _alike(rows: list[int], letters: list[frozenset[str]]) -> Iterator[list[int]]:
    """Groups of rows each of which is ALIKE another of its group, whatever their order."""
    import rensa

    found: Any = rensa.RMinHashLSH(threshold=ALIKE, num_perm=HASHES, num_bands=BANDS)
    first = [*range(len(rows))]  # the least member of each one's group, or one nearer to it

    def least(place: int) -> int:
        while first[place] != place:
            place = first[place]
        return place

    for place, own in enumerate(letters):
        hashes = rensa.RMinHash(num_perm=HASHES, seed=0)
        hashes.update(sorted(own))
        for other in found.query(hashes):
            if len(own & letters[other]) >= ALIKE * len(own | letters[other]):
                a, b = sorted((least(place), least(other)))
                first[b] = a
        found.insert(place, hashes)
    return _blocks((row, least(place)) for place, row in enumerate(rows))
