"""The one place where a question becomes text: the loss, finetuning and evaluation all read from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt and a completion with `{question}` and `{answer}` in them; the completion owns the space."""

    name: str
    prompt: str
    completion: str

    def render_prompt(self, question: str) -> str:
        """The text the model is given."""
        return self.prompt.replace("{question}", question)

    def render_completion(self, answer: str) -> str:
        """The text the model should go on with, its leading space included."""
        return self.completion.replace("{answer}", answer)


TEMPLATES = {
    "qa": Template("qa", "Question: {question}\nAnswer:", " {answer}"),
}
DEFAULT = TEMPLATES["qa"]
