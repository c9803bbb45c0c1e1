"""A question as text: templates, and the solved examples before it."""

from __future__ import annotations

import functools
import hashlib
import heapq
import json
import re
import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from curate.errors import EstimatorError, ModelError, setting
from curate.records import Example

LETTERS = string.ascii_uppercase
"""What the choices of a multiple-choice question are called; there can be no more of them than of these."""


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt and its completion, as Jinja texts; the completion owns the space before the answer.

    The texts may use `question`, `answer` (in the completion only), `subject`, `relation`, `choices` and
    `letters` (A, B, …, as many as there are choices). The header stands once before everything, solved examples
    included, and may name the `topic`; the separator stands after each solved example.

    The chat template of a model is one of these too, once it is `fitted` to the model's tokenizer: its `system` is what
    the system says, empty for nothing. There the header and the prompt may use `system`, and whether the example is
    `solved`, as an earlier turn is. `system` is None in every other template.
    """

    name: str
    prompt: str
    completion: str = " {{ answer }}"
    header: str = ""
    separator: str = "\n\n"
    system: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """All that makes it: two templates of the same texts are one, whatever they are called."""
        texts = self.prompt, self.completion, self.header, self.separator
        return texts if self.system is None else (*texts, self.system)

    def as_dict(self) -> dict[str, str]:
        """For manifests."""
        return {name: text for name, text in asdict(self).items() if text is not None}

    @property
    def is_chat(self) -> bool:
        """Whether it is a model's own chat template, which writes special tokens itself."""
        return self.system is not None

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

    def ask(self, example: Example, solved: bool = False) -> str:
        """The prompt of one example, without header and solved examples; in a chat after its own earlier turns."""
        turns = earlier_answers(example) or () if self.is_chat else ()
        said = "".join(self.solve(Example("", question, (answer,)), answer) for question, answer in turns)
        return said + _render(self.prompt, question=example.question, solved=solved, **self._facts(example))

    def solve(self, example: Example, answer: str) -> str:
        """An example with its answer, ready for another to follow."""
        return self.ask(example, solved=True) + self.render_completion(answer) + self.separator

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
        return _render(self.header, topic=topic(example), **self._facts(example)) if self.header else ""

    def _facts(self, example: Example) -> dict[str, Any]:
        """What the texts may name besides the question; an example's own system prompt comes before the template's."""
        return {
            "subject": example.subject,
            "relation": example.relation,
            "choices": example.choices,
            "letters": LETTERS[: len(example.choices)],
            "system": system_prompt(example) or self.system,
        }

    @property
    def as_asked(self) -> Template:
        """The same, before it was fitted to a model's tokenizer."""
        chat = CHOICE_CHAT if self.multiple_choice else TEMPLATES["chat"]
        return replace(chat, system=self.system) if self.is_chat else self

    @property
    def takes_system(self) -> bool:
        """Whether it has a place for what the system says."""
        return self.is_chat and (self == self.as_asked or "{{ system }}" in self.header + self.prompt)

    def with_choices(self) -> Template:
        """The chat template for questions with choices; any other template as it is."""
        return replace(CHOICE_CHAT, system=self.system) if self.is_chat and not self.multiple_choice else self

    def fitted(self, tokenizer: Any, model: str) -> Template:
        """The texts that a tokenizer's chat template makes; any other template as it is.

        ModelError where the tokenizer has no chat template, or one whose texts cannot be told apart: it fails, changes
        what user, assistant or system say, or leaves it out.
        """
        return _ChatTexts(tokenizer, model).template(self.as_asked) if self.is_chat else self


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
    "chat": Template("chat", "{{ question }}", "{{ answer }}", system=""),
}
DEFAULT, CHAT = TEMPLATES["qa"], "chat"
CHOICE_CHAT = replace(TEMPLATES["chat"], prompt=TEMPLATES["mmlu"].prompt)
"""What the user of a chat asks where there are choices."""

_OPEN = "\ue000"
"""Stands for a question: in nobody's template."""

_ANSWER = re.compile(r"( *\{\{-?\s*answer\s*-?\}\})\s*$")


def topic(example: Example) -> str | None:
    """What solved examples should have in common with a question: its relation; in multiple choice, its subject."""
    return (example.subject or example.relation) if example.choices else example.relation


def system_prompt(example: Example) -> str:
    """What the system says before a chat; empty for nothing."""
    return "\n\n".join(text for role, text in example.turns if role == "system")


def earlier_answers(example: Example) -> list[tuple[str, str]] | None:
    """The questions and answers of a chat before its last question; None where user and assistant do not take turns."""
    said = [turn for turn in example.turns if turn[0] != "system"]
    asked, answered = said[::2], said[1::2]
    if {role for role, _ in asked} - {"user"} or {role for role, _ in answered} - {"assistant"} or len(said) % 2:
        return None
    return [(question, answer) for (_, question), (_, answer) in zip(asked, answered, strict=True)]


def count_chats(turns: Iterable[Sequence[tuple[str, str]]]) -> dict[str, int]:
    """Of what was said before each question: how often a `system` spoke, how often there were `earlier` turns."""
    roles = [{role for role, _ in said} for said in turns]
    return {"system": sum("system" in r for r in roles), "earlier": sum(bool(r - {"system"}) for r in roles)}


def chats_left_out(chats: Mapping[str, int], template: Template, where: str) -> list[str]:
    """What a template leaves out of chats that were counted: a line, or none."""
    what = {"a system prompt": 0 if template.takes_system else chats["system"]}
    what["earlier turns"] = 0 if template.is_chat else chats["earlier"]
    counted = " and ".join(f"{many} chats have {name}" for name, many in what.items() if many)
    use = "" if template.is_chat else "; --template chat reads them"
    return [f"{counted}, which {template.name} leaves out ({where}){use}."] if counted else []


def find_template(name: str | Template, system: str | None = None) -> Template:
    """The template of that name, or the user's own Jinja file; EstimatorError when it is neither or cannot be used.

    A file holds the whole text of one example with `{{ answer }}` at its end; without it, a space and the
    answer follow the text. `system` is for the chat template alone, which has still to be `fitted` to a tokenizer.
    """
    template = _find_template(name)
    if system is None:
        return template
    if not template.is_chat:
        raise EstimatorError(
            f"{setting('system')} is for the chat template, and questions are asked with {template.name}.",
            try_next=f"{setting('template', 'chat')} {setting('system', repr(system))}",
        )
    return replace(template.as_asked, system=system.strip())


def _find_template(name: str | Template) -> Template:
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


class _ChatTexts:
    """A tokenizer's chat template, taken apart into the texts of a Template.

    Chats whose contents are known are rendered, and what stands around these is cut out. Put together again, the pieces
    must give what the chat template gives.
    """

    SYSTEM = "§ Be  brief,\nand KIND."
    TURNS = tuple((f"Which Bird  no. {n}\n(Émile's) cannot Fly?", f"The Kiwi of Isle {n}.") for n in range(3))

    def __init__(self, tokenizer: Any, model: str) -> None:
        self._tokenizer, self._model = tokenizer, model

    def template(self, asked: Template) -> Template:
        """The template that asks `asked` in the tokenizer's chat template."""
        if not getattr(self._tokenizer, "chat_template", None):
            raise ModelError(
                f"The model {self._model!r} has no chat template.",
                expected=f"a model that was trained to chat, for {setting('template', 'chat')}",
                try_next=setting("template", "qa"),
            )
        bare = self._pieces(None)
        try:
            spoken = self._pieces(self.SYSTEM)
        except ModelError:
            if asked.system:
                raise
            spoken = bare  # a chat template that knows no system
        *texts, space, separator = bare
        if spoken[-2:] != (space, separator):
            raise self._refused("it ends turns in another way where there is a system prompt")
        pairs = zip(map(self._jinja, spoken), map(self._jinja, texts), strict=False)
        header, before, before_solved, between, between_solved = (_either("system", *pair) for pair in pairs)
        prompt = _either("solved", before_solved, before) + asked.prompt + _either("solved", between_solved, between)
        return replace(asked, prompt=prompt, completion=space + asked.completion, header=header, separator=separator)

    def _pieces(self, system: str | None) -> tuple[str, ...]:
        """Before all questions; before the last and an earlier one; after them; before an answer; after an earlier one.

        The space between a chat template's own prompt for an answer and the answer belongs to the answer, as elsewhere.
        """
        single, double, triple = (self._around(system, turns) for turns in (1, 2, 3))
        alike = next((n for n, (a, b) in enumerate(zip(single[0], double[0], strict=False)) if a != b), len(single[0]))
        header, before, before_solved = single[0][:alike], single[0][alike:], double[0][alike:]
        between, between_solved, separator = single[1], double[1], double[2].removesuffix(before)
        turn, last = [separator + before_solved, between_solved], [separator + before, between, single[2]]
        first = [header + before_solved, between_solved]
        if double != [*first, *last] or triple != [*first, *turn, *last]:
            raise self._refused("it puts earlier turns in other ways than one after the other")
        unanswered = self._around(system, 1, answered=False)[1]
        space = between.removeprefix(unanswered)
        if not between.startswith(unanswered) or space.strip() or not between_solved.endswith(space):
            space = ""
        cut = len(space)
        pieces = (text[: len(text) - cut] for text in (between, between_solved))
        return header, before, before_solved, *pieces, space, separator

    def _around(self, system: str | None, turns: int, answered: bool = True) -> list[str]:
        """What stands before, between and after the contents of a chat."""
        said = [("system", system)] if system else []
        said += [pair for turn in self.TURNS[-turns:] for pair in zip(("user", "assistant"), turn, strict=True)]
        said = said if answered else said[:-1]
        messages = [{"role": role, "content": content} for role, content in said]
        try:
            rest = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=not answered)
        except Exception as error:  # whatever a template that is somebody's file may raise
            raise self._refused(f"it fails: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
        around = []
        for role, content in said:
            if rest.count(content) != 1:
                raise self._refused(f"it changes, moves, repeats or leaves out what the {role} says")
            if role != "system":  # that is filled in where it stands, whichever turn that is
                before, _, rest = rest.partition(content)
                around.append(before)
        return [*around, rest]

    def _refused(self, why: str) -> ModelError:
        return ModelError(
            f"The chat template of {self._model!r} cannot be used: {why.rstrip('.')}.",
            expected="a chat template that keeps what is said, word for word, and turns in their order",
            try_next=f"{setting('template', 'qa')}, or a tokenizer with another chat template",
        )

    def _jinja(self, text: str) -> str:
        """Jinja that renders to the text, what the system says filled in."""
        quote = re.search(r"\{[{%#]", text)
        parts = (
            f"{{{{ {json.dumps(part, ensure_ascii=False)} }}}}" if quote else part for part in text.split(self.SYSTEM)
        )
        return "{{ system }}".join(parts)


def _either(condition: str, text: str, otherwise: str) -> str:
    return text if text == otherwise else f"{{% if {condition} %}}{text}{{% else %}}{otherwise}{{% endif %}}"


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
        self._texts: dict[tuple[Any, ...], str] = {}
        self._by_topic: dict[str, list[Example]] = defaultdict(list)
        for example in self._all:
            self._by_topic[topic(example) or ""].append(example)

    def prefix(self, example: Example) -> str:
        """The header and the solved examples, ready for the example's own prompt to follow."""
        return self.template.head(example) + "".join(self.solved(shot) for shot in self.choose(example))

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
                digest.update(repr((topic(shot), self.solved(shot))).encode("utf-8", "surrogatepass"))
        return {"count": self.count, "sha256": digest.hexdigest()[:16]}

    def solved(self, shot: Example) -> str:
        """The text of a solved example."""
        said = (shot.question, shot.answers, shot.subject, shot.relation, shot.choices)
        if said not in self._texts:  # every question of a relation comes after the same few
            answer = solution(self.template, shot)
            assert answer is not None, "kept out when the pool was read"
            self._texts[said] = self.template.solve(shot, answer)
        return self._texts[said]


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
        solved = {group: [self.solved(shot) for shot in shots] for group, shots in sorted(self.drawn.items())}
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
                try_next=setting(asked_by, there - 1)
                if there > 1
                else f"{setting('by', 'loss')} {setting('shots', 0)}",
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
    """What follows the prompt when the answer is right: the letter of the choice, or the first answer.

    None where there is none, or where a chat template has no place for the example's earlier turns.
    """
    if not example.answers or (template.is_chat and earlier_answers(example) is None):
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
