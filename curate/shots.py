"""Few-shot prompts: the solved examples that stand before a question."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from curate.errors import EstimatorError
from curate.prompts import LETTERS, Template, topic
from curate.records import Example


class Shots:
    """The first `count` examples of a pool that are of the same topic, in the pool's order.

    The topic is the relation, or for multiple choice the subject (as in MMLU). Where the pool has fewer than
    `count` of a topic, or the topic is unknown, the shots are the first of the whole pool. An example is never
    its own shot: one with the same question is passed over. Raises EstimatorError when the pool is too small.
    """

    def __init__(self, template: Template, pool: Sequence[Example] = (), count: int = 0) -> None:
        self.template = template
        self.count = count
        usable = [e for e in pool if e.question and solution(template, e) is not None]
        if count > len(usable):
            raise EstimatorError(
                f"The examples to take shots from are {len(usable)}, and --shots asks for {count}.",
                expected="at least as many examples with a question and an answer",
                try_next=f"--shots {len(usable)}, or a larger file with --shots-from",
            )
        self._all = usable
        self._by_topic: dict[str, list[Example]] = defaultdict(list)
        for example in usable:
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
                return others
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


def solution(template: Template, example: Example) -> str | None:
    """What follows the prompt when the answer is right: the letter of the choice, or the first answer."""
    if not example.answers:
        return None
    if not template.multiple_choice:
        return example.answers[0]
    if example.answers[0] not in example.choices[: len(LETTERS)]:
        return None
    return LETTERS[example.choices.index(example.answers[0])]
