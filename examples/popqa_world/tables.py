"""What a world and its runs say, as Markdown tables: pure functions of their JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def world_table(record: Record) -> str:
    """The settings of a world that matter, and how long it took."""
    settings, measured = record["settings"], record["measured"]
    rows = [
        ("model", f"Llama, {measured['parameters']:,} parameters: {settings['depth']} layers of {settings['width']}"),
        ("tokenizer", f"byte-level BPE, {settings['vocabulary']:,} tokens"),
        ("facts", f"{record['facts']:,} in {record['relations']} relations, {record['questions']:,} questions"),
        ("pretraining", f"{settings['statements']:,} statements, one pass, batches of {settings['batch_size']}"),
        ("optimizer", f"AdamW, {settings['learning_rate']:g}, warm-up and cosine to a tenth"),
        ("a statement is about a subject in proportion to", f"{settings['views']}^{settings['temperature']:g}"),
        ("phrasings of a relation", "3 sentences and a line of a table" if settings["cards"] else "3 sentences"),
        ("seed", settings["seed"]),
        ("minutes on a shared core", record["minutes"]),
    ]
    return table(["", ""], rows)


def memory_table(record: Record) -> str:
    """What the model states, by tenths of the facts from the most viewed, beside how often they were stated."""
    measured = record["measured"]
    header = ["tenth, most viewed first", *map(str, range(1, 11)), "all"]
    shares = [*measured["memorised_by_decile"], measured["memorised"]]
    rows = [
        ["times stated, sorted (median)", *[f"{n:g}" for n in record["stated_by_decile"]], ""],
        ["memorised", *[f"{share:.0%}" for share in shares]],
    ]
    return table(header, rows)


def arms_table(summary: Record) -> str:
    """Accuracy of every arm, and its distance from `top` with the 95% interval."""
    distance = {d["b"]: d for d in summary["differences"] if d["a"] == "top"}
    rows = []
    for arm in summary["arms"]:
        away = distance.get(arm["arm"])
        error = "" if arm["stderr"] is None else percent(arm["stderr"])
        rows.append([arm["arm"], f"{arm['n_train']:,}", percent(arm["accuracy"]), error, interval(away)])
    return table(["finetuned on", "questions", "accuracy", "± s.e.", "top minus this, points (95% interval)"], rows)


def relations_table(summary: Record, arms: Sequence[str] = ("top", "bottom")) -> str:
    """Accuracy of two arms by relation, relations with the most test questions first."""
    found: dict[str, dict[str, Record]] = {}
    for row in summary["relations"]:
        found.setdefault(row["relation"], {})[row["arm"]] = row
    order = sorted(found, key=lambda name: -found[name][arms[0]]["n"])
    rows = [[name, found[name][arms[0]]["n"], *[percent(found[name][a]["accuracy"]) for a in arms]] for name in order]
    return table(["relation", "test questions", *arms], rows)


def quintiles_table(summary: Record) -> str:
    """Accuracy of every arm in each fifth of the test questions, the most popular first."""
    found: dict[str, list[str]] = {}
    for row in sorted(summary["quintiles"], key=lambda row: row["quintile"]):
        found.setdefault(row["arm"], []).append(percent(row["accuracy"]))
    return table(["fifth, most viewed first", *map(str, range(1, 6))], [[arm, *found[arm]] for arm in found])


def agreement_table(correlations: Mapping[tuple[str, str], float], names: Sequence[str]) -> str:
    """Spearman's rank correlation of every pair of scores."""
    rows = [[a, *["" if a == b else signed(correlations[a, b]) for b in names]] for a in names]
    return table(["", *names], rows)


def selecting_table(summaries: Mapping[str, Record]) -> str:
    """What selecting by each estimator does: accuracy of its two halves, and their distance."""
    rows = []
    for name, summary in summaries.items():
        accuracy = {arm["arm"]: percent(arm["accuracy"]) for arm in summary["arms"]}
        away = next(d for d in summary["differences"] if (d["a"], d["b"]) == ("top", "bottom"))
        rows.append([name, accuracy["top"], accuracy["bottom"], interval(away)])
    return table(["selected by", "top", "bottom", "top minus bottom, points (95% interval)"], rows)


def percent(share: float) -> str:
    """A share as percent without the sign."""
    return f"{100 * share:.1f}"


def signed(correlation: float) -> str:
    """Two digits, with a proper minus and none before zero."""
    return f"{round(correlation, 2) + 0.0:.2f}".replace("-", "−")


def interval(difference: Record | None) -> str:
    """A difference with its interval, in points."""
    if difference is None:
        return ""
    points = [f"{100 * difference[name]:+.1f}".replace("-", "−") for name in ("difference", "low", "high")]
    return f"{points[0]} ({points[1]} to {points[2]})"
