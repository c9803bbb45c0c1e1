"""Multiple choice after Kang et al.: −log of the right letter's share among the letters."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from curate.estimators.loss import LossEstimator, LossSettings, choice_score
from curate.lm.loss import AnswerLoss
from curate.lm.model import LoadedModel, load_model
from curate.prompts import LETTERS, TEMPLATES, Shots
from curate.records import Example

MMLU = TEMPLATES["mmlu"]
COLOURS = Example("1", "Which is a colour?", ("red",), "basic colours", None, ("one", "red", "dog", "Paris"))


def letters_by_hand(loaded: LoadedModel, prompt: str, count: int) -> list[float]:
    """Log of each letter's share among the letters.

    Where each letter is one token after the same tokens, the log-softmax of their logits alone, as in Kang et al.;
    where one letter is one token with its space and another two, the same share of the texts' probabilities.
    """
    import torch

    rows = [loaded.tokenizer(f"{prompt} {letter}")["input_ids"] for letter in LETTERS[:count]]
    alike = next(n for n, column in enumerate(zip(*rows, strict=False)) if len(set(column)) > 1)
    with torch.no_grad():
        if all(len(row) == alike + 1 for row in rows):
            logits = loaded.model(torch.tensor([rows[0][:alike]])).logits[0, -1].double()
            return torch.log_softmax(logits[[row[-1] for row in rows]], dim=-1).tolist()
        log_p = []
        for row in rows:
            steps = torch.log_softmax(loaded.model(torch.tensor([row])).logits[0].double(), dim=-1)
            log_p.append(sum(float(steps[t - 1, row[t]]) for t in range(alike, len(row))))
        return torch.log_softmax(torch.tensor(log_p), dim=-1).tolist()


def losses(*nats: float) -> list[AnswerLoss]:
    return [AnswerLoss(value, 1, 2) for value in nats]


def test_the_score_is_the_log_of_the_letters_share() -> None:
    # Probabilities 0.1, 0.2, 0.1 over the whole vocabulary: the right letter has half of what the letters have.
    score = choice_score(losses(-math.log(0.1), -math.log(0.2), -math.log(0.1)), correct=1)
    assert score.value == pytest.approx(math.log(0.5))
    assert score.evidence["nats"] == pytest.approx(-math.log(0.5))
    assert score.evidence["choice"] == "B"
    assert score.evidence["margin"] == pytest.approx(math.log(2))


def test_a_wrong_pick_has_a_negative_margin() -> None:
    score = choice_score(losses(1.0, 3.0), correct=1)
    assert (score.evidence["choice"], score.evidence["margin"]) == ("A", -2.0)


def test_letters_hardly_expected_at_all_still_compare() -> None:
    assert choice_score(losses(1000.0, 1001.0), correct=0).value == pytest.approx(-math.log1p(math.exp(-1)))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "byte-fallback", "mistral", "qwen", "gemma"])
@pytest.mark.parametrize("count", [2, 4, 26])
def test_agrees_with_the_letters_by_hand(tiny_model: Callable[[str], Path], kind: str, count: int) -> None:
    loaded = load_model(tiny_model(kind), device="cpu")
    loaded.model.config.max_position_embeddings = 256  # 26 choices are longer than the tiny contexts
    if kind == "gpt2" and count == 26:
        pytest.skip("learned positions end at 128")
    example = replace(COLOURS, choices=tuple(f"c{n}" for n in range(count)), answers=("c1",), subject=None)
    (score,) = LossEstimator(LossSettings(template="mmlu"), loaded).score([example])
    prompt = Shots(MMLU).prefix(example) + MMLU.ask(example)
    assert score.value == pytest.approx(letters_by_hand(loaded, prompt, count)[1], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"choices": ()}, "no_choices"),
        ({"choices": ("red",)}, "no_choices"),
        ({"choices": tuple(map(str, range(27)))}, "too_many_choices"),
        ({"answers": ("green",)}, "answer_not_in_choices"),
        ({"answers": ()}, "no_answer"),
    ],
)
def test_what_cannot_be_asked_has_a_reason(tiny_model: Callable[[str], Path], change: dict, status: str) -> None:
    estimator = LossEstimator(LossSettings(model=tiny_model("llama"), device="cpu", template="mmlu"))
    (score,) = estimator.score([replace(COLOURS, **change)])
    assert (score.value, score.status) == (None, status)


def read_mmlu(path: Path) -> list[Example]:
    subject = path.stem.rsplit("_", 1)[0]
    with path.open(newline="", encoding="utf-8") as lines:
        return [
            Example(str(n), question, (choices["ABCD".index(letter)],), subject, None, tuple(choices))
            for n, (question, *choices, letter) in enumerate(csv.reader(lines))
        ]


def test_real_questions_five_shots(shared: Path, stories: Path) -> None:
    """MMLU prehistory on a small real model, whose context is cut out for it: positions are rotary, so they go on."""
    loaded = load_model(stories, device="cpu")
    loaded.model.config.max_position_embeddings = 8192
    dev = read_mmlu(shared / "data" / "mmlu" / "dev" / "prehistory_dev.csv")
    asked = read_mmlu(shared / "data" / "mmlu" / "test" / "prehistory_test.csv")[:6]
    shots = Shots(MMLU, dev, 5)
    estimator = LossEstimator(LossSettings(template="mmlu"), loaded)
    estimator.sets = [shots]
    scores = list(estimator.score(asked))
    for example, score in zip(asked, scores, strict=True):
        right = example.choices.index(example.answers[0])
        by_hand = letters_by_hand(loaded, shots.prefix(example) + MMLU.ask(example), 4)
        assert score.value == pytest.approx(by_hand[right], abs=1e-4)
        assert score.evidence["choice"] == LETTERS[by_hand.index(max(by_hand))]
    golden = [-1.925697, -0.847344, -0.680444, -0.841014, -2.140897, -1.209643]
    assert [score.value for score in scores] == pytest.approx(golden, abs=1e-4)
