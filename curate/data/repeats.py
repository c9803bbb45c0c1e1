"""What comes more than once: questions, with other answers or the same; names of several things; what a training and a
test set have in common.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.data.answers import answer_text
from curate.data.columns import cells_of, columns_read
from curate.data.ids import hash_texts
from curate.data.layouts import FIRST_ROWS
from curate.data.stores import as_arrow
from curate.data.table import QATable
from curate.records import Example

COUNTED = 250_000
"""Rows up to which every command counts: a tenth of a second. Of more they are counted where they are asked for."""

ITEM_COLUMNS = ("s_uri", "subj_id", "wikidata_id", "qid", "subject_id", "sub_uri")
"""Columns that tell by an item of Wikidata which thing a subject is."""

ITEM = re.compile(r"(^|[/:])Q[1-9]\d*$")

KINDS = ("question", "subject")
"""What can be ambiguous: a question that others answer differently, a subject's name that is that of several items."""

SHARES = ("no", "answer", "subject", "question")
"""The most that a row can have in common with the rows of a file."""

EMPTY = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(bytes(8)), pa.py_buffer(b"")])
"""One empty text, made without `pa.array`, which imports pandas."""


def folded(text: str) -> str:
    """The text but for capitals and blanks."""
    return " ".join(text.casefold().split())


def ambiguous(data: QATable) -> dict[str, NDArray[np.bool_]]:
    """For each of KINDS the rows that are so: (N,) each. Only rows whose question or name repeats are looked at closer.

    A question is, where another row asks it, of the same choices, and neither the first answers nor all accepted ones
    are the same. A subject is, where rows of the same name have different items.
    """
    found = {kind: np.zeros(len(data), dtype=bool) for kind in KINDS}
    rows = repeated(data, data.roles.question)
    groups: dict[Any, list[tuple[int, list[str]]]] = defaultdict(list)
    for row, example in zip(rows.tolist(), data.examples_of(_taken(data, data.roles.fields(), rows)), strict=True):
        if example.answers:
            answers = [folded(answer) for answer in example.answers]
            groups[folded(example.question), example.choices].append((row, answers))
    for asked in groups.values():
        if len({a[0] for _, a in asked}) > 1 and len({frozenset(a) for _, a in asked}) > 1:
            found["question"][[row for row, _ in asked]] = True
    name, item = data.roles.subject, item_column(data)
    if name is not None and item is not None:
        rows = repeated(data, name)
        table = _taken(data, [name, item], rows)
        named = [folded(answer_text(cell)) for cell in cells_of(table, name)]
        items: dict[str, set[str]] = defaultdict(set)
        for subject, cell in zip(named, cells_of(table, item), strict=True):
            items[subject] |= {answer_text(cell).rpartition("/")[2]} - {""}
        found["subject"][[row for row, s in zip(rows.tolist(), named, strict=True) if len(items[s]) > 1]] = True
    return found


def item_column(data: QATable) -> str | None:
    """The column of the subjects' items: one of ITEM_COLUMNS, or the first that has only items in the first rows."""
    others = [name for name in data.schema.names if name not in data.roles.fields()]
    if usual := next((name for name in ITEM_COLUMNS if name in others), None):
        return usual
    head = data.rows.head(FIRST_ROWS)
    for name in others:
        of_answer = name.lower().startswith(("o", "a"))
        if pa.types.is_string(head.schema.field(name).type) and not of_answer:
            texts = list(filter(None, map(answer_text, head[name].to_pylist())))
            if texts and all(map(ITEM.search, texts)):
                return name
    return None


def repeated(data: QATable, field: str) -> NDArray[np.int64]:
    """The rows whose text in a field, but for capitals and blanks, is that of another row too. (k,)"""
    column = data.column(field)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        column = pa.chunked_array([[answer_text(cell) for cell in column.to_pylist()]], pa.string())
    texts = pc.utf8_trim_whitespace(pc.utf8_lower(column))
    if pc.any(pc.match_substring_regex(texts, "[ \t\n]{2}")).as_py():  # seldom, and slow
        texts = pc.replace_substring_regex(texts, r"\s+", " ")
    hashes = hash_texts(texts)
    different, counts = np.unique(hashes, return_counts=True)
    several = different[(counts > 1) & (different != hash_texts(EMPTY)[0])]
    return np.flatnonzero(np.isin(hashes, several)) if len(several) else np.empty(0, dtype=np.int64)


def _taken(data: QATable, fields: Sequence[str], rows: NDArray[np.int64]) -> pa.Table:
    return data.table_of(fields).take(as_arrow(rows))


def count_ambiguous(data: QATable, within: NDArray[np.bool_] | None = None) -> dict[str, int] | None:
    """How many rows, of some (N,), are ambiguous, by kind; None of more rows than are counted unasked."""
    if len(data) > COUNTED:
        return None
    return {kind: int((rows if within is None else rows & within).sum()) for kind, rows in ambiguous(data).items()}


PART = re.compile(r"(?<![a-z])(train|test|dev|val|valid|validation)(?![a-z])")


def shared_parts(data: QATable) -> list[dict[str, Any]]:
    """What the test parts of a dataset have in common with its training part, where it has both.

    A column `split` tells the parts, or the names of the files. Empty of more rows than are counted unasked.
    """
    if len(data) > COUNTED:
        return []
    if "split" in data.schema.names:
        named = [answer_text(cell) for cell in data.column("split").to_pylist()]
    else:
        named = [file for file, rows in data.rows.files for _ in range(rows)]
    parts: dict[str, list[Example]] = defaultdict(list)
    found = [PART.search(name.lower()) for name in named]
    if any(found):
        for part, example in zip(found, data.examples_of(data.table_of(data.roles.fields())), strict=True):
            parts[part[1] if part else ""].append(example)
    held = Held(parts.pop("train", ()))
    return [{"test": t, "split": "train", **held.count(parts[t])} for t in parts if t and held.questions]


def remarks(found: Mapping[str, int] | None, where: str = "") -> list[str]:
    """What was counted, a sentence each."""
    said = {
        "question": f"examples{where} ask a question that others answer differently.",
        "subject": f"examples{where} name a subject that stands for several items.",
    }
    return [f"{n} {said[kind]}" for kind, n in (found or {}).items() if n]


class Held:
    """What a set of examples asks, asks about and answers."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self.questions: set[str] = set()
        self.subjects: set[str] = set()
        self.answers: set[str] = set()
        for example in examples:
            self.questions.add(folded(example.question))
            self.subjects |= {folded(example.subject)} if example.subject else set()
            self.answers |= set(map(folded, example.answers[:1]))

    def shares(self, example: Example) -> Mapping[str, bool]:
        """What an example has in common with them: its question, its subject, an answer that trains them."""
        return {
            "question": folded(example.question) in self.questions,
            "subject": bool(example.subject) and folded(example.subject or "") in self.subjects,
            "answer": any(folded(answer) in self.answers for answer in example.answers),
        }

    def count(self, examples: Iterable[Example]) -> dict[str, int]:
        """How many of the examples share each."""
        found = [self.shares(example) for example in examples]
        return {name: sum(shared[name] for shared in found) for name in ("question", "subject", "answer")}

    def most(self, example: Example) -> int:
        """The most that an example has in common with them, as a number into SHARES."""
        shared = self.shares(example)
        return max((SHARES.index(name) for name, yes in shared.items() if yes), default=0)


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
    examples = data.examples_of(_taken(data, data.roles.fields(), rows))
    asked = ((folded(example.question), example.choices) for example in examples)
    return _blocks(zip(rows.tolist(), asked, strict=True))


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
