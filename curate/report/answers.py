"""The table of test questions: what every arm answered, the most telling questions first, small enough for a page."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.arm_names import contrast
from curate.report.drawing import label
from curate.report.tables import Rows

BUDGET = 2_000_000
"""Bytes of a page that questions and answers may take; those beyond it are left to predictions.parquet."""
LONGEST = 600
"""Characters shown of a question, or of an answer."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The table's data as JSON that can stand in a script element, and how many questions it has and lacks."""

    json: str
    shown: int
    left_out: int


def answers_table(predictions: Rows, arms: Sequence[str], budget: int = BUDGET) -> Answers:
    """Every test question with every arm's answers, as the page's script reads them.

    First come questions that the first arm of the `contrast` gets right with more seeds than the second.
    """
    by_id: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in predictions:
        by_id[row["id"]][row["arm"]].append(row)
    ordered = sorted(by_id.values(), key=lambda said: -advantage(said, contrast(arms)))
    lines: list[str] = []
    used = 0
    for said in ordered:
        line = _json(_question(said, arms))
        used += len(line.encode()) + 1
        if used > budget:
            break
        lines.append(line)
    seeds = {arm: max(len(said[arm]) for said in ordered) for arm in arms}
    about = _json([{"label": label(arm), "seeds": seeds[arm]} for arm in arms])
    return Answers(f'{{"arms":{about},"rows":[{",".join(lines)}]}}', len(lines), len(ordered) - len(lines))


def advantage(said: Mapping[str, Rows], pair: tuple[str, str] | None) -> float:
    """How much more often one arm of a pair is right than the other on one question, over seeds: -1 to 1.

    Below that, questions the arms disagree on at all come before those they agree on.
    """
    shares = {arm: sum(row["correct"] for row in rows) / len(rows) for arm, rows in said.items() if rows}
    lead = shares.get(pair[0], 0) - shares.get(pair[1], 0) if pair else 0
    return lead + 1e-3 * (len(set(shares.values())) > 1)


def _question(said: Mapping[str, Rows], arms: Sequence[str]) -> list[Any]:
    """[question, accepted, percentile, relation, subject, answers], where answers are [text, right, seeds] per arm."""
    first = said[arms[0]][0]
    percentile = first["popularity_percentile"]
    return [
        _clip(first["question"]),
        _clip(", ".join(first["answers"])),
        None if percentile is None else round(percentile),
        first["relation"],
        first["subject"],
        [_distinct(said[arm]) for arm in arms],
    ]


def _distinct(rows: Rows) -> list[list[Any]]:
    counted = Counter((_clip(row["prediction"].strip()), int(row["correct"])) for row in rows)
    return [[text, right, seeds] for (text, right), seeds in counted.most_common()]


def _clip(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _json(content: Any) -> str:
    """JSON without `<`, so that no text in it can end the script element it stands in."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
