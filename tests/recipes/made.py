"""Small files in the layouts of the paper's datasets, so that its recipes run without them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

HISTORY = ("high_school_european_history", "high_school_us_history", "high_school_world_history", "prehistory")

_QUESTIONS = {
    "country": ("In what country is {}?", ["United States of America", "France", "Japan"]),
    "sport": ("What sport does {} play?", ["association football", "ice hockey", "baseball"]),
    "occupation": ("What is {}'s occupation?", ["actor", "politician", "journalist"]),
    "genre": ("What genre is {}?", ["drama", "jazz"]),
}


def popqa(folder: Path) -> Path:
    """PopQA's TSV, 120 rows: of each relation a half has the most frequent answer."""
    path = folder / "popQA.tsv"
    rows = []
    for number in range(120):
        relation = list(_QUESTIONS)[number % 4]
        question, answers = _QUESTIONS[relation]
        place = number // 4
        answer = answers[0] if place % 2 else answers[1 + place // 2 % (len(answers) - 1)]
        subject = f"Subject {number}"
        rows.append((number, subject, relation, answer, 10 * number, question.format(subject), json.dumps([answer])))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(("id", "subj", "prop", "obj", "s_pop", "question", "possible_answers"))
        writer.writerows(rows)
    return path


def entity_questions(folder: Path) -> Path:
    """EntityQuestions: a folder for each split with a JSON file for each relation, and the templates beside them."""
    templates = {"P106": "What kind of work does {} do?", "P17": "Which country is {} located in?"}
    answers = {"P106": ["politician", "blacksmith"], "P17": ["Norway", "Chile"]}
    root = folder / "entityquestions"
    for split, rows in (("train", 24), ("dev", 4), ("test", 8)):
        (root / split).mkdir(parents=True)
        for relation, template in templates.items():
            content = [
                {"question": template.format(f"{split.title()} {n}"), "answers": [answers[relation][n % 2]]}
                for n in range(rows)
            ]
            (root / split / f"{relation}.{split}.json").write_text(json.dumps(content))
    (root / "relation_query_templates.json").write_text(json.dumps(templates))
    return root


def mmlu(folder: Path) -> Path:
    """MMLU's original layout: a folder for each split with a header-less CSV for each subject, letters as answers."""
    root = folder / "mmlu"
    for split, rows in (("dev", 5), ("val", 3), ("test", 10)):
        (root / split).mkdir(parents=True)
        for subject in (*HISTORY, "virology"):
            with (root / split / f"{subject}_{split}.csv").open("w", newline="") as file:
                csv.writer(file).writerows(
                    (f"{subject} {split} {n}?", f"in {n}", f"in {n + 1}", f"in {n + 2}", f"in {n + 3}", "ABCD"[n % 4])
                    for n in range(rows)
                )
    return root


DATA: dict[str, Callable[[Path], Path]] = {
    "popqa-controlled": popqa,
    "popqa": popqa,
    "mine": popqa,
    "entity-questions": entity_questions,
    "mmlu-history": mmlu,
}
