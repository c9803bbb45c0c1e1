"""What a run keeps of attention: every arm and seed is measured on the same test examples, then compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.arm_names import contrast
from curate.lm.load import LoadedModel
from curate.prompts import Template
from curate.records import Example
from curate.selection import random_rows
from curate.validation.attention import attention_maps, has_attention, subject_attention
from curate.validation.subjects import SubjectPrompt, subject_prompts

EXAMPLES = 500
"""Test examples whose attention is averaged, at most: enough for a standard error of a few thousandths."""
MAPS = 24
"""Of these, examples whose whole attention is kept for heat maps."""


@dataclass(frozen=True)
class Probe:
    """The test examples that attention is measured on, and how many have a subject in their question at all."""

    prompts: Sequence[SubjectPrompt]
    with_subject: int

    def look(self, loaded: LoadedModel) -> dict[str, Any] | None:
        """Mean subject attention of every layer, and a few whole maps; None where there is nothing to look at."""
        if not self.prompts or not has_attention(loaded):
            return None
        maps = attention_maps(loaded, self.prompts[:MAPS])
        return {
            "layers": subject_attention(loaded, self.prompts).mean(axis=0).tolist(),
            "maps": [
                {
                    "id": prompt.id,
                    "tokens": list(prompt.texts),
                    "subject": [t in prompt.subject for t in range(len(prompt.ids))],
                    "weights": weights.round(5).tolist(),
                }
                for prompt, weights in zip(self.prompts, maps, strict=False)
            ],
        }


def make_probe(loaded: LoadedModel, examples: Sequence[Example], template: Template) -> Probe:
    """A seeded sample of the test examples that name their subject, with their zero-shot prompts."""
    prompts = [template.head(example) + template.ask(example) for example in examples]
    found = [prompt for prompt in subject_prompts(loaded, examples, prompts) if prompt is not None]
    rows = random_rows([prompt.id for prompt in found], min(EXAMPLES, len(found)), seed=0)
    return Probe([found[row] for row in rows], len(found))


def attention_rows(runs: Sequence[Any]) -> list[dict[str, Any]]:
    """Mean attention to the subject of every run that was looked at: arm, seed, layer (from 1), subject_attention."""
    return [
        {"arm": run.arm, "seed": run.seed, "layer": layer, "subject_attention": value}
        for run in runs
        if run.attention
        for layer, value in enumerate(run.attention["layers"], start=1)
    ]


def map_rows(runs: Sequence[Any]) -> list[dict[str, Any]]:
    """The attention maps of every arm at its first seed: a row for each example and layer."""
    first: dict[str, Any] = {}
    for run in runs:
        first.setdefault(run.arm, run)
    return [
        {"arm": run.arm, "seed": run.seed, "id": kept["id"], "layer": layer}
        | {"tokens": kept["tokens"], "subject": kept["subject"], "attention": weights}
        for run in first.values()
        if run.attention
        for kept in run.attention["maps"]
        for layer, weights in enumerate(kept["weights"], start=1)
    ]


def attention_summary(rows: Sequence[Mapping[str, Any]], arms: Sequence[str], probe: Probe) -> dict[str, Any] | None:
    """Whether the first arm of the `contrast` looks at the subject more than the second in the later half of layers.

    Gives both means over seeds, their difference seed by seed, and a sentence that says what they say; None
    without attention.
    """
    if not rows:
        return None
    about = {"examples": len(probe.prompts), "with_subject": probe.with_subject}
    pair = contrast(arms)
    if pair is None:
        return {**about, "sentence": "There is only one finetuned arm: nothing to compare."}
    depth = max(row["layer"] for row in rows)
    later = [row for row in rows if row["layer"] > depth // 2]
    first, second = (_by_seed(later, arm) for arm in pair)
    differences = [first[seed] - second[seed] for seed in first if seed in second]
    means = {arm: sum(by_seed.values()) / len(by_seed) for arm, by_seed in zip(pair, (first, second), strict=True)}
    layers = f"layer {depth}" if depth // 2 + 1 == depth else f"layers {depth // 2 + 1} to {depth}"
    where = f"In the later half of the model ({layers} of {depth})"
    return {
        **about,
        "later_layers": [depth // 2 + 1, depth],
        "later_attention": means,
        "later_differences": differences,
        "sentence": f"{where} the last token of the prompt gives the subject {means[pair[0]]:.3f} of its attention "
        f"after finetuning on {pair[0]} and {means[pair[1]]:.3f} after {pair[1]}: {_in_words(differences, pair[0])}.",
    }


def _by_seed(rows: Sequence[Mapping[str, Any]], arm: str) -> dict[int, float]:
    seeds: dict[int, list[float]] = {}
    for row in rows:
        if row["arm"] == arm:
            seeds.setdefault(row["seed"], []).append(row["subject_attention"])
    return {seed: sum(values) / len(values) for seed, values in seeds.items()}


def _in_words(differences: Sequence[float], arm: str) -> str:
    """Seed by seed, since a mean over a few seeds can hide that they disagree."""
    more, less, seeds = sum(d > 0 for d in differences), sum(d < 0 for d in differences), len(differences)
    if more not in (0, seeds) or (more == 0 and less < seeds):
        return f"no clear difference, {arm} gives it more with {more} of {seeds} seeds"
    times = "the one seed" if seeds == 1 else f"each of the {seeds} seeds"
    return f"{arm} gives it {'more' if more else 'less'} with {times}"
