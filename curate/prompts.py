"""A question as text: templates, and the solved examples before it."""

from __future__ import annotations

import functools
import hashlib
import heapq
import re
import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import EstimatorError, setting
from curate.records import Example

LETTERS = string.ascii_uppercase
"""What the choices of a multiple-choice question are called; there can be no more of them than of these."""


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt and its completion, as Jinja texts; the completion owns the space before the answer.

    The texts may use `question`, `answer` (in the completion only), `subject`, `relation`, `choices` and
    `letters` (A, B, …, as many as there are choices). The header stands once before everything, solved examples
    included, and may name the `topic`; the separator stands after each solved example.
    """

    name: str
    prompt: str
    completion: str = " {{ answer }}"
    header: str = ""
    separator: str = "\n\n"

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """All that makes it: two templates of the same texts are one, whatever they are called."""
        return self.prompt, self.completion, self.header, self.separator

    @property
    def multiple_choice(self) -> bool:
        """Whether the prompt shows choices, so that the answer is a letter."""
        return "choices" in self.prompt

    def render_prompt(self, question: str) -> str:
        """The text the model is given of a question alone."""
        return self.ask(Example("", question, ()))

    def render_completion(self, answer: str) -> str:
        """The text the model should go on with, its leading space included."""
        return _render(self.completion, answer=answer)

    def ask(self, example: Example) -> str:
        """The prompt of one example, without header and solved examples."""
        return _render(self.prompt, question=example.question, **_facts(example))

    def zero_shot(self, example: Example) -> str:
        """The prompt of one example with the header and no solved example before it."""
        return self.head(example) + self.ask(example)

    def question_in(self, prompt: str) -> str | None:
        """The question of a zero-shot prompt that this template made; None if it made none that tells it."""
        before, _, after = self.zero_shot(Example("", _OPEN, ())).partition(_OPEN)
        fits = prompt.startswith(before) and prompt.endswith(after) and len(prompt) > len(before) + len(after)
        return prompt[len(before) : len(prompt) - len(after)] if fits and not self.multiple_choice else None

    def head(self, example: Example) -> str:
        """The header as it reads for one example; empty where the template has none."""
        return _render(self.header, topic=topic(example), **_facts(example)) if self.header else ""


TEMPLATES = {
    "qa": Template("qa", "Question: {{ question }}\nAnswer:"),
    "plain": Template("plain", "{{ question }}"),
    "slick": Template("slick", "Q: {{ question }}\nA:", separator="\n"),
    "mmlu": Template(
        "mmlu",
        "{{ question }}{% for choice in choices %}\n{{ letters[loop.index0] }}. {{ choice }}{% endfor %}\nAnswer:",
        header="The following are multiple choice questions (with answers)"
        "{% if topic %} about {{ topic | replace('_', ' ') }}{% endif %}.\n\n",
    ),
}
DEFAULT = TEMPLATES["qa"]

_OPEN = "\ue000"
"""Stands for a question: in nobody's template."""

_ANSWER = re.compile(r"( *\{\{-?\s*answer\s*-?\}\})\s*$")


def topic(example: Example) -> str | None:
    """What solved examples should have in common with a question: its relation; in multiple choice, its subject."""
    return (example.subject or example.relation) if example.choices else example.relation


def find_template(name: str | Template) -> Template:
    """The template of that name, or the user's own Jinja file; EstimatorError when it is neither or cannot be used.

    A file holds the whole text of one example with `{{ answer }}` at its end; without it, a space and the
    answer follow the text.
    """
    if isinstance(name, Template):  # as a file's manifest tells
        return name
    if name in TEMPLATES:
        return TEMPLATES[name]
    path = Path(name)
    if not path.is_file():
        raise EstimatorError(
            f"There is no template {name!r}.",
            expected=f"one of {', '.join(TEMPLATES)}, or a Jinja file of your own",
            try_next=setting("template", "qa"),
        )
    template = parse_template(path.stem, path.read_text(encoding="utf-8"))
    template.ask(Example("", "a question", (), "a subject", "a relation", ("one", "two")))
    return template


def parse_template(name: str, text: str) -> Template:
    """Prompt and completion from one Jinja text: the spaces before `{{ answer }}` go to the completion."""
    match = _ANSWER.search(text)
    if match is None:
        prompt, completion = text.rstrip(), " {{ answer }}"
    else:
        prompt, completion = text[: match.start()], match[1]
    if not re.search(r"\bquestion\b", prompt) or re.search(r"\banswer\b\s*-?\}\}", prompt):
        raise EstimatorError(
            f"The template {name!r} cannot be used.",
            expected="{{ question }} in it, and {{ answer }} nowhere but at the end",
            try_next="Question: {{ question }} Answer: {{ answer }}",
        )
    return Template(name, prompt, completion)


def _facts(example: Example) -> dict[str, Any]:
    """What a template may name besides the question."""
    letters = LETTERS[: len(example.choices)]
    return {"subject": example.subject, "relation": example.relation, "choices": example.choices, "letters": letters}


def _render(text: str, **values: Any) -> str:
    from jinja2 import TemplateError

    try:
        return str(_compiled(text).render(**values))
    except (TemplateError, TypeError, ValueError) as error:
        raise EstimatorError(
            f"The template cannot be rendered: {error}.",
            expected="Jinja that uses question, answer, subject, relation, choices and letters only",
        ) from error


@functools.lru_cache(maxsize=64)
def _compiled(text: str) -> Any:
    """Compiled in Jinja's sandbox, since a template is somebody's file; a name it does not know is an error."""
    from jinja2 import StrictUndefined, TemplateSyntaxError
    from jinja2.sandbox import SandboxedEnvironment

    try:
        return SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(text)
    except TemplateSyntaxError as error:
        raise EstimatorError(f"The template is not Jinja: {error}.", try_next="Question: {{ question }}") from error


class Shots:
    """The first `count` examples of a pool that are of the same topic, in the pool's order.

    The topic is the relation, or for multiple choice the subject (as in MMLU). Where the pool has fewer than
    `count` of a topic, or the topic is unknown, the shots are the first of the whole pool. An example is never
    its own shot: one with the same question is passed over. Raises EstimatorError when the pool is too small.
    """

    def __init__(self, template: Template, pool: Sequence[Example] = (), count: int = 0) -> None:
        self.template = template
        self.count = count
        self._all = [e for e in pool if e.question and solution(template, e) is not None]
        if count > (there := len(self._all)):
            raise EstimatorError(
                f"The examples to take shots from are {there}, and {setting('shots')} asks for {count}.",
                expected="at least as many examples with a question and an answer",
                try_next=f"{setting('shots', there)}, or a larger file with {setting('shots_from')}",
            )
        self._by_topic: dict[str, list[Example]] = defaultdict(list)
        for example in self._all:
            self._by_topic[topic(example) or ""].append(example)

    def prefix(self, example: Example) -> str:
        """The header and the solved examples, ready for the example's own prompt to follow."""
        return self.template.head(example) + "".join(self._solved(shot) for shot in self.choose(example))

    def choose(self, example: Example) -> list[Example]:
        """The shots of one example."""
        others: list[Example] = []
        for pool in (self._by_topic.get(topic(example) or "", []), self._all):
            others = [shot for shot in pool if shot.question != example.question][: self.count]
            if len(others) == self.count:
                break
        return others

    def fingerprint(self) -> dict[str, object]:
        """How many, and a hash of what they are chosen from."""
        digest = hashlib.sha256()
        if self.count:
            for shot in self._all:
                digest.update(repr((topic(shot), self._solved(shot))).encode("utf-8", "surrogatepass"))
        return {"count": self.count, "sha256": digest.hexdigest()[:16]}

    def _solved(self, shot: Example) -> str:
        answer = solution(self.template, shot)
        assert answer is not None, "kept out when the pool was read"
        return self.template.ask(shot) + self.template.render_completion(answer) + self.template.separator


SPARE = 16
"""Candidates kept of every topic, per exemplar that is wanted: among them those with other subjects and answers."""


class Exemplars(Shots):
    """Solved examples drawn from the dataset itself, the same for every shard, engine and order of its rows.

    For each relation `count + 1` are drawn by a seeded hash of question, answers and subject: rows with an answer, each
    about another subject, with another first answer as far as there are any. An example sees the first `count` that are
    neither itself nor about its subject. What a relation lacks is filled from those drawn over the whole dataset.
    Where no relation is known, question patterns stand for them, if they are given.
    """

    def __init__(
        self, template: Template, drawn: Mapping[str, Sequence[Example]], count: int, patterns: Patterns | None = None
    ) -> None:
        """`drawn` are the exemplars of every relation; under the empty name, those of the whole dataset."""
        super().__init__(template)
        self.count, self.drawn, self.patterns = count, drawn, patterns

    def choose(self, example: Example) -> list[Example]:
        """The exemplars of one example."""
        chosen: list[Example] = []
        for shot in (*self.drawn.get(relation_of(example, self.patterns), ()), *self.drawn[""]):
            if len(chosen) < self.count and not any(_alike(shot, other) for other in (example, *chosen)):
                chosen.append(shot)
        return chosen

    def fingerprint(self) -> dict[str, object]:
        """How many, which, by their ids, and a hash of their texts."""
        solved = {group: [self._solved(shot) for shot in shots] for group, shots in sorted(self.drawn.items())}
        digest = hashlib.sha256(repr(solved).encode("utf-8", "surrogatepass"))
        return {
            "count": self.count,
            "relations": "question patterns" if self.patterns else "as given",
            "drawn": {group: [shot.id for shot in shots] for group, shots in sorted(self.drawn.items())},
            "sha256": digest.hexdigest()[:16],
        }


def draw_exemplars(
    template: Template,
    examples: Iterable[Example],
    count: int,
    sets: Sequence[str] = ("",),
    patterns: Patterns | None = None,
    seed: int = 0,
    asked_by: str = "shots",
) -> list[Exemplars]:
    """Exemplars out of all examples of a dataset, which pass by once; each name in `sets` draws an unrelated set.

    EstimatorError where the dataset has too few rows with an answer about different subjects; it names the setting
    `asked_by` which so many were asked for.
    """
    keys = [hashlib.blake2b(f"exemplars:{name}:{seed}".encode(), digest_size=16).digest() for name in sets]
    most = SPARE * (count + 1)
    # Of every set and relation the candidates with the least hashes, the greatest of them first.
    heaps: list[dict[str, list[tuple[int, int, Example]]]] = [defaultdict(list) for _ in sets]
    for number, example in enumerate(examples):
        if not example.question or solution(template, example) is None:
            continue
        content = repr((example.question, example.answers, example.subject)).encode("utf-8", "surrogatepass")
        groups = {relation_of(example, patterns), ""}
        for key, by_group in zip(keys, heaps, strict=True):
            rank = -int.from_bytes(hashlib.blake2b(content, digest_size=8, key=key).digest(), "big")
            for heap in (by_group[group] for group in groups):
                if len(heap) < most:
                    heapq.heappush(heap, (rank, number, example))
                elif rank > heap[0][0]:
                    heapq.heapreplace(heap, (rank, number, example))
    found = []
    for by_group in heaps:
        drawn = {
            group: _unlike([example for _, _, example in sorted(heap, key=lambda item: -item[0])], count + 1)
            for group, heap in by_group.items()
        }
        there = len(drawn.get("", ()))
        if there <= count:
            raise EstimatorError(
                f"There are {there} examples of different subjects with an answer to draw solved examples from; "
                f"{count} besides the question itself are asked for.",
                expected=f"at least {count + 1}",
                try_next=setting(asked_by, max(0, there - 1)),
            )
        found.append(Exemplars(template, drawn, count, patterns))
    return found


def relation_of(example: Example, patterns: Patterns | None) -> str:
    """The topic of an example, or the pattern of its question; empty where it has neither."""
    return topic(example) or (patterns.of(example.question) if patterns else None) or ""


def _unlike(candidates: Sequence[Example], count: int) -> list[Example]:
    """The first of the candidates that differ in subject, and in first answer as long as that leaves enough."""
    chosen: list[Example] = []
    for new_answers_only in (True, False):
        for candidate in candidates:
            answers = {shot.answers[0].casefold() for shot in chosen}
            if len(chosen) == count or any(_alike(candidate, shot) for shot in chosen):
                continue
            if not (new_answers_only and candidate.answers[0].casefold() in answers):
                chosen.append(candidate)
    return chosen


def _alike(one: Example, other: Example) -> bool:
    """Whether they ask the same, or about the same subject (of multiple choice, the subject is what it is about)."""
    if one.question == other.question:
        return True
    known = one.subject and other.subject and not one.choices
    return bool(known) and str(one.subject).casefold() == str(other.subject).casefold()


def solution(template: Template, example: Example) -> str | None:
    """What follows the prompt when the answer is right: the letter of the choice, or the first answer."""
    if not example.answers:
        return None
    if not template.multiple_choice:
        return example.answers[0]
    if example.answers[0] not in example.choices[: len(LETTERS)]:
        return None
    return LETTERS[example.choices.index(example.answers[0])]


class Patterns:
    """Question patterns: what many questions have in common around one varying span, `Who wrote …`.

    They stand for relations where none is known. A pattern is some first and some last words of a question; a question
    has the longest one that at least 5, and 1%, of the questions share. Words with a capital, but for the first, belong
    to names, so that "Who wrote The …" is no pattern of its own.

    >>> patterns = Patterns([f"Who wrote {title}?" for title in ("Emma", "Dune", "Ulysses", "It", "The Trial")])
    >>> patterns.of("Who wrote The Waves?")
    'Who wrote …'
    >>> patterns.of("Is it raining?") is None
    True
    """

    LEAST_QUESTIONS, LEAST_SHARE = 5, 0.01
    MOST_QUESTIONS = 20_000
    """In a sample of so many different questions patterns are looked for."""
    MOST_FIRST, MOST_LAST = 10, 4
    """Words of a pattern at its beginning and at its end, at most."""

    def __init__(self, questions: Iterable[str]) -> None:
        distinct = set(questions)
        counts = Counter(pattern for question in distinct for pattern in self._candidates(question))
        least = max(self.LEAST_QUESTIONS, self.LEAST_SHARE * len(distinct))
        self._counts = {pattern: many for pattern, many in counts.items() if many >= least}

    def __len__(self) -> int:
        return len(self._counts)

    def of(self, question: str) -> str | None:
        """The pattern of a question, `Who wrote …`; None where it has none."""
        known = [pattern for pattern in self._candidates(question) if pattern in self._counts]
        if not known:
            return None
        first, last = max(known, key=lambda pattern: (sum(map(len, pattern)), self._counts[pattern], pattern))
        return " ".join([*first, "…", *last])

    def _candidates(self, question: str) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Pairs of first and last words with at least one word between; two first words at least."""
        words = tuple(re.findall(r"\w[\w'’-]*", question))
        names = [n for n, word in enumerate(words) if n and word[:1].isupper()]
        most_first = min([self.MOST_FIRST, len(words) - 1, *names[:1]])
        most_last = min([self.MOST_LAST, *(len(words) - 1 - n for n in names[-1:])])
        for first in range(2, most_first + 1):
            for last in range(min(most_last, len(words) - first - 1) + 1):
                yield words[:first], words[len(words) - last :]
