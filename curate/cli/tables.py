"""Results as tables and lines for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from curate.cli.console import EXIT_MISSING, Output, can_print, make_table
from curate.data.export import score_text
from curate.data.repeats import remarks
from curate.display import duration, percent
from curate.errors import DataError
from curate.estimators.base import why_failed
from curate.wikipedia.views import MEASURED

if TYPE_CHECKING:
    from rich.table import Table

Tables = list[Any]
"""Tables of rich, and lines."""


def quantile_table(
    title: str | None,
    headers: Sequence[str],
    rows: Sequence[tuple[Sequence[object], Mapping[str, float]]],
    form: str = ".4g",
) -> Table:
    """A table whose rows end in quantiles (`0%`, `25%`, …), those of no values in empty cells."""
    shares = max((quantiles for _, quantiles in rows), key=len)
    filled = [
        [*cells, *([f"{q:{form}}" for q in quantiles.values()] or [""] * len(shares))] for cells, quantiles in rows
    ]
    return make_table(title, [*headers, *(f"{100 * float(share):g}%" for share in shares)], filled)


def one_of(names: Iterable[str]) -> str:
    """`parquet, jsonl or csv`."""
    *others, last = names
    return f"{', '.join(others)} or {last}"


def as_typed(value: Any) -> str:
    """A number, or several, as they are typed: `0.5,1,1.5`."""
    return ",".join(f"{number:g}" for number in (value if isinstance(value, tuple) else (value,)))


# score


def score_table(summaries: Mapping[str, Any], statuses: Mapping[str, Mapping[str, int]]) -> Table:
    """A row an estimator: how many it measured, their range, and why not the others."""
    rows = []
    for name, summary in summaries.items():
        quantiles = summary["quantiles"]
        reasons = [f"{why} {n}" for why, n in statuses.get(name, {}).items() if why not in MEASURED and n]
        numbers = [f"{quantiles[q]:.4g}" if quantiles else "" for q in ("0", "0.5", "1")]
        rows.append([name, summary["measured"], f"{percent(summary['coverage'])}%", *numbers, ", ".join(reasons)])
    return make_table(None, ["score", "measured", "coverage", "min", "median", "max", "not measured"], rows)


# select


SHOWN = ("0", "0.25", "0.5", "0.75", "1")
"""The quantiles that a line of 80 columns has room for."""


def selection_tables(told: str, summary: Mapping[str, Any], explanation: Mapping[str, Any]) -> Tables:
    """What was done in words; sizes and cuts, quantiles, what splits share, and how mixes moved. 80 columns at most."""
    rows = []
    for split in summary["splits"]:
        cut = split["cut"]
        edge = ["", None, None] if cut is None else [score_text(cut["score"]), cut["ties"], cut["ties_kept"]]
        rows.append([split["split"], shortened(split["asked"], 26), split["rows"], *edge])
    tables: Tables = [wrapped(told), make_table(None, ["split", "asked", "rows", "cut at", "ties", "kept"], rows)]
    quantiles = [
        ([name], {q: values[q] for q in SHOWN if q in values}) for name, values in explanation["quantiles"].items()
    ]
    tables.append(quantile_table(None, ["score"], quantiles))
    shared = [f"{p['a']} and {p['b']}: {p['rows']}" for p in explanation["overlap"] if p["rows"]]
    if shared:
        more = [] if len(shared) <= 6 else [f"{len(shared) - 6} more pairs"]
        tables.append(wrapped(f"Rows in common: {'; '.join([*shared[:6], *more])}"))
    mixes = [role for role in ("relation", "pattern", "answers", "answer_frequency") if role in explanation]
    return tables + [mix_table(role, explanation[role]["splits"], explanation["counted"]) for role in mixes]


def wrapped(text: str) -> str:
    """A paragraph in lines of at most 80 columns, words and options whole."""
    return textwrap.fill(text, 80, break_long_words=False, break_on_hyphens=False)


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def mix_table(role: str, splits: Mapping[str, Any], counted: str) -> Table:
    """How far the mix of relations or answers moved, and what moved most, a row a split."""
    rows = []
    for name, split in splits.items():
        shifts = [
            f"{shortened(s['value'], 20)} {percent(s['before'])}% → {percent(s['after'])}%" for s in split["shifts"][:1]
        ]
        rows.append([name, f"{percent(split['moved'])}%", split["distinct"], *(shifts or [""])])
    note = "" if counted == "all rows" else f" ({counted})"
    header = f"mix of {role.replace('_', ' ')}{note}"
    return make_table(None, [header, "moved", "distinct", "largest shift"], rows)


def selection_remark(summary: Mapping[str, Any]) -> str:
    """How many rows were ranked, and what became of the others."""
    without, policy = summary["missing"]["rows"], summary["missing"]["policy"]
    action = {"exclude": " (left out)", "lowest": " (ranked last)", "error": ""}[policy] if without else ""
    others = [f"{n} {why}" for why, n in summary["left_out"].items() if why != "no score"]
    others += [
        f"{split['without_answer']} of {split['split']} without a question or an answer not written"
        for split in summary["splits"]
        if "without_answer" in split
    ]
    others += [
        f"{split['without_turns']} of {split['split']} written without their earlier turns or system prompt"
        for split in summary["splits"]
        if "without_turns" in split
    ]
    others += [
        f"{split['added']} known rows added to {split['split']}" for split in summary["splits"] if "added" in split
    ]
    for split in summary["splits"]:
        lacks = sorted(split.get("lacks", {}).items(), key=lambda item: -item[1])
        some = [f"{what} {n}" for what, n in lacks[:2]] + (["…"] if len(lacks) > 2 else [])
        others += [f"{split['split']} lacks {sum(split['lacks'].values())} rows ({', '.join(some)})"] if lacks else []
    return "; ".join([f"{summary['rows']} rows by {summary['by']}, {without} without a score{action}", *others])


# validate, search and simulate


def _cost_line(costs: Mapping[str, float] | None) -> str:
    """What a validation will take."""
    if costs is None:
        return "how long it takes and in what memory cannot be told: the model is not on this machine"
    takes = f"about {duration(costs['seconds'])} here, in {costs['memory'] / 1e9:.1f} GB"
    return f"{costs['tokens']:,} tokens in passes through the model, {takes}; think of a factor of two"


def summary_tables(summary: Mapping[str, Any]) -> Tables:
    """A run: accuracies, differences, other tasks, verdict."""
    from curate.report.page import task_table

    shares = ("accuracy", "stderr", "exact_match", "f1")
    arms = [[a["arm"], a["n_train"], *(percent(a[name]) for name in shares), a["seeds"]] for a in summary["arms"]]
    differences = []
    for d in summary["differences"]:
        points, low, high = (f"{100 * d[name]:+.1f}" for name in ("difference", "low", "high"))
        differences.append([f"{d['a']} − {d['b']}", points, f"{low} to {high}", f"{d['p']:.4f}"])
    names = [row["arm"] for row in summary["arms"]]
    tasks = [
        [row["task"], row["metric"], *("" if value is None else f"{value[0]:.4f}" for value in row["values"])]
        for row in task_table(summary["lm_eval"], names)
    ]
    headers = ["arm", "trained on", "accuracy %", "± s.e.", "exact match %", "F1 %", "seeds"]
    return [
        make_table(f"Accuracy on {summary['arms'][0]['n_eval']} test questions", headers, arms),
        make_table("Differences, in points", ["arms", "difference", "95% interval", "p"], differences),
        *([make_table("Tasks of lm-eval", ["task", "metric", *names], tasks)] if tasks else []),
        *([f"TRIAL RUN: {', '.join(trial)}"] if (trial := summary.get("trial_run")) else []),
        summary["verdict"],
        *([advice] if (advice := summary.get("recommendation")) else []),
    ]


def runs_tables(found: Mapping[str, Any]) -> Tables:
    """Several runs: a row each with the accuracies of its arms, and what is different in their settings."""
    from curate.report.page import runs_rows

    headers, rows = runs_rows(found["runs"])
    settings = [[name, *values] for name, values in found["settings"].items()]
    tables: Tables = [make_table("Accuracy, percent", headers, rows)]
    if settings:
        tables.append(
            make_table("Settings that differ", ["setting", *(run["file"] for run in found["runs"])], settings)
        )
    return [*tables, *(f"{run['file']}: {run.get('recommendation') or run['verdict']}" for run in found["runs"])]


def validation_plan_tables(found: Mapping[str, Any]) -> Tables:
    """What a validation would do, and how long that takes."""
    rows = [[arm["arm"], arm["examples"], arm["steps"]] for arm in found["arms"]]
    return [
        make_table(None, ["arm", "examples", "steps at most"], rows),
        f"{found['trials']} trials, {found['finetunings']} finetunings, {found['answers']} answers",
        f"--knowledge is {'on' if found['knowledge'] else 'off'}, {found['knowledge_cost']:.0%} more work",
        _cost_line(found["costs"]),
    ]


def recipe_plan_lines(found: Mapping[str, Any]) -> list[str]:
    """What a recipe would do, step by step, and how much of it."""
    steps, cost = found["steps"], found["cost"]
    lines = [f"{step['step']}: {step['state']}\n    {step['command'] or 'write ' + step['output']}" for step in steps]
    return [*lines, f"{cost['arms']} arms, {cost['trials']} trials, {cost['finetunings']} finetunings"]


def search_plan_tables(found: Mapping[str, Any]) -> Tables:
    """What a search would do, and how long that takes."""
    rows = [[n + 1, rung["steps"], rung["questions"]] for n, rung in enumerate(found["schedule"])]
    rows.append(["confirmation", found["steps"], found["parts"]["confirm"]])
    work = [found["trainings"], f"{found['tokens']:,}", found["time"]]
    share = f"{percent(found['share'])}% of those of validating {found['candidates']} candidates in full"
    return [
        make_table(f"{found['candidates']} candidates", ["rung", "steps", "questions"], rows),
        make_table("At most", ["trainings", "tokens", "time"], [work]),
        f"The examples trained on are {share}. Where candidates are dropped the others train for more steps.",
    ]


def search_tables(summary: Mapping[str, Any], last: Sequence[Mapping[str, Any]]) -> Tables:
    """A search: where every candidate came to, the confirmation, the sentence."""
    rows = []
    for row in last:
        behind, low, high = (f"{100 * row[name]:+.1f}" for name in ("behind", "low", "high"))
        place = [row["rung"], "dropped" if row["dropped"] else ""]
        rows.append([row["candidate"], row["rows"], *place, percent(row["accuracy"]), behind, f"{low} to {high}"])
    headers = ["candidate", "trained on", "rung", "", "accuracy %", "from the best", "95% interval"]
    arms = [
        [a["arm"], a["n_train"], percent(a["accuracy"]), percent(a["stderr"]), a["seeds"]] for a in summary["confirmed"]
    ]
    title = f"Confirmed on {summary['parts']['confirm']} other questions"
    return [
        make_table(f"Searched on {summary['parts']['search']} questions", headers, rows),
        *([make_table(title, ["arm", "trained on", "accuracy %", "± s.e.", "seeds"], arms)] if arms else []),
        summary["sentence"],
    ]


def simulation_tables(summary: Mapping[str, Any]) -> Tables:
    """A simulation's own tables, and its verdict."""
    from curate.simulation.simulate import find_experiment

    shown = find_experiment(summary["experiment"]).tables(summary)
    return [*(make_table(t.title, t.headers, t.rows) for t in shown), summary["verdict"]]


# show


def shown_tables(found: Mapping[str, Any]) -> Tables:
    """What `curate show` found, whatever it is."""
    if found["kind"] == "comparison":
        return _comparison_tables(found)
    if found["kind"] == "agreement":
        return _agreement_tables(found)
    if found["kind"] in ("run", "simulation"):
        try:
            return summary_tables(found) if found["kind"] == "run" else simulation_tables(found)
        except (LookupError, TypeError, ValueError, AttributeError) as error:  # each summary has fields of its own
            raise DataError(
                f"The summary.json in {found['file']} is not as curate wrote it ({type(error).__name__}: {error}).",
                expected="the file as it was written",
                try_next="the command that made it again, or copy it again from where it is whole",
            ) from error
    if found["kind"] == "going on":
        return _status_lines(found)
    if found["kind"] == "splits":
        return [item for split in found["splits"] for item in [f"── {split['split']}", *_dataset_tables(split)]]
    return [f"{found['file']} ({found['kind']})", *_dataset_tables(found)]


def _status_lines(found: Mapping[str, Any]) -> Tables:
    """How far a run is that goes on, or was stopped."""
    left = f", {duration(found['seconds_left'])} left" if found["seconds_left"] is not None else ""
    at = f"at {found['part']}" if found.get("part") else "begun"
    heard = f"last heard of {duration(found['seconds_since'])} ago"
    said = [found["said"]] if found.get("said") else []
    return [f"{found['file']}: {found['done']} of {found['parts']} parts done, {at}{left}; {heard}", *said]


def _dataset_tables(found: Mapping[str, Any]) -> Tables:
    roles = dict(found["columns"])
    layout = roles.pop("preset") or "no known layout, columns by their names"
    columns = ", ".join(f"{role}={name}" for role, name in roles.items() if name)
    lines: Tables = [
        f"{found['rows']} examples, {found['subjects']} subjects, {found['relations']} relations, "
        f"{found['without_answer']} without an answer, {found['blank_answers']} blank answers dropped",
        f"read as {layout}: {columns}",
    ]
    if chats := found.get("chats"):
        lines.append(f"{chats['system']} chats with a system prompt, {chats['earlier']} with earlier turns")
    if asked := found["asked"]:
        shots = f" after {asked['shots']} solved examples" if asked["shots"] else ""
        lines.append(f"asked with the template {asked['template']}{shots}")
    if found["selection"]:
        selection = found["selection"]
        lines.append(
            f"split {selection['split']} ({selection['asked']}) by {selection['by']}, seed {selection['seed']}"
        )
    for name, summary in found["scores"].items():
        lines += _score_tables(name, summary)
    lines += why_failed(found)
    lines += _pageview_tables(found["pageviews"])
    return lines + [f"{example['prompt']}{example['completion'] or ''}" for example in found["examples"]]


def _score_tables(name: str, summary: Mapping[str, Any]) -> Tables:
    """The quantiles of a score, and its histogram as bars."""
    counts, edges = summary["histogram"]["counts"], summary["histogram"]["edges"]
    block = "█" if can_print("█") else "#"
    bars = [
        [f"{low:.4g} to {high:.4g}", n, block * round(30 * n / max(counts))]
        for n, low, high in zip(counts, edges, edges[1:], strict=False)
    ]
    row = [name, summary["measured"]], summary["quantiles"]
    tables: Tables = [quantile_table(None, ["score", "measured"], [row])]
    return tables + ([make_table(None, [name, "rows", ""], bars)] if bars else [])


def _pageview_tables(report: Mapping[str, Any] | None) -> Tables:
    if report is None:
        return []
    total = sum(report["statuses"].values())
    coverage = [[status, n, f"{percent(n / total)}%"] for status, n in report["statuses"].items()]
    tables: Tables = [make_table("Page views: coverage", ["status", "examples", "share"], coverage)]
    if report["quantiles"]:
        tables.append(quantile_table("Monthly views", [], [([], report["quantiles"])], ",.0f"))
    for which in ("most", "least"):
        rows = [[subject, f"{views:,.0f}"] for subject, views in report[which]]
        tables.append(make_table(f"{which.capitalize()} viewed", ["subject", "views a month"], rows))
    if report["agreement"]:
        found = report["agreement"]
        number = found["rank_correlation"]
        value = "not defined" if number is None else f"{number:.3f}"
        tables.append(f"rank correlation with {found['column']}: {value} over {found['examples']} examples")
    for status, subjects in report["unanswered"].items():
        tables.append(f"{status}: {'; '.join(subjects)}{'; …' if len(subjects) == 20 else ''}")
    return tables


def _comparison_tables(found: Mapping[str, Any]) -> Tables:
    sizes = [[s["split"], s["rows"], s["distinct_subjects"]] for s in found["splits"]]
    shared = [[p["a"], p["b"], p["rows"], p["subjects"]] for p in found["overlap"]]
    tables: Tables = [
        make_table(None, ["split", "rows", "subjects"], sizes),
        make_table("In common", ["split", "and", "rows", "subjects"], shared),
    ]
    for name, splits in found["scores"].items():
        rows = [([split, s["measured"]], s["quantiles"]) for split, s in splits.items()]
        tables.append(quantile_table(None, [name, "measured"], rows))
    return tables + [mix_table(r, found[r]["splits"], "all rows") for r in ("relation", "answers") if r in found]


INSIDE = ("all", "inside_relations")
AMONG = {
    "all": "all rows",
    "inside_relations": "inside relations",
    "rare_answers": "rare answers",
    "same_answer": "same relation and answer",
}
FACTORS = {"relation": "relation", "pattern": "question pattern", "length": "length of the answer", "all": "together"}


def _agreement_tables(found: Mapping[str, Any]) -> Tables:
    """How every two scores agree; what each tells of what is known; what explains it."""
    known, only = found["known"], found["scores"][0]
    field, count = found["relations"]["from"], found["relations"]["count"]
    tables: Tables = [
        f"{found['compared']:,} of {found['rows']:,} rows have all scores: {', '.join(found['scores'])}",
        f"{count:,} relations ({field})"
        if field
        else f"No relation is known; {count} question patterns stand for them",
    ]
    agreeing = [
        [f"{pair['a']}, {pair['b']}"]
        + [_two_digits(pair["correlation"][way]) for way in INSIDE]
        + [percent(pair["overlap"][way]) for way in INSIDE]
        for pair in found["pairs"]
    ]
    headers = ["scores", "rank correlation", "inside relations", "better half in common %", "inside relations"]
    if agreeing:
        tables.append(make_table("Do they agree?", headers, agreeing))
    else:
        tables.append(f"{only} is the only score. Another beside it: curate score {found['file']} --by …")
    if known:
        told = [[name, *(_two_digits(values[way]) for way in AMONG)] for name, values in known["auc"].items()]
        told.append(["(pairs)", *(f"{known['pairs'][way]:,}" for way in AMONG)])
        tables += [
            make_table("Do they tell known from unknown? AUC; 0.50 is chance", ["score", *AMONG.values()], told),
            f"known: known_greedy is at least {known['least_right']}, {known['known']:,} rows; "
            f"{known['unknown']:,} unknown",
            *(["score_known holds known_greedy itself: its AUC is no evidence."] if "known" in known["auc"] else []),
        ]
    else:
        tables.append("No column known_greedy tells what is known; curate score --by known adds one.")
    shares = [
        [name, *(percent(values.get(factor)) for factor in FACTORS)] for name, values in found["explained"].items()
    ]
    return [*tables, make_table("What explains their order? Adjusted R², %", ["score", *FACTORS.values()], shares)]


def _two_digits(value: float | None) -> str:
    return "" if value is None else f"{round(value, 2) + 0.0:.2f}"  # never -0.00


# what a command says of what it did

ALREADY = "already made, and left as it is"


def report_run(out: Output, content: Mapping[str, Any], *last: Any, first: Sequence[str] = ()) -> None:
    """The tables of a validation between other lines, and its warnings."""
    out.result(content, *first, *summary_tables(content), *last)
    for warning in content["warnings"]:
        out.warn(warning)


def report_scored(out: Output, scored: Any, summaries: Mapping[str, Any], output: str) -> None:
    """What came of scoring, and how it was done."""
    for note in scored.notes():
        out.note(note)
    rows, seconds, roles = scored.rows, scored.seconds, scored.manifest["columns"]
    content = {
        "output": output,
        "rows": rows,
        "columns": roles,
        **counted(scored.manifest),
        "scores": summaries,
        "ambiguous": scored.ambiguous,
        **({"shared": shared} if (shared := scored.shared) else {}),
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds, 1),
    }
    table = score_table(summaries, scored.manifest["statuses"])
    out.result(content, table, *why_failed(scored.manifest), output)
    named = ", ".join(f"{role}={name}" for role, name in roles.items() if name)
    how = ALREADY if scored.earlier else f"in {seconds:.1f} s ({rows / seconds:,.0f} rows/s)"
    out.note(f"{rows} examples {how}; columns {named}")
    note_clashes(out, content)


def counted(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The rows by status, and why some failed, where that is known."""
    return {name: manifest[name] for name in ("statuses", "reasons") if name in manifest}


def note_clashes(out: Output, content: Mapping[str, Any]) -> None:
    """Say what is ambiguous, and what evaluation sets share with the splits to train on."""
    found = remarks(content.get("ambiguous"))
    found += ["--where ambiguous=no selects the others."] if found else []
    if again := content.get("duplicates"):
        found += [f"{again} examples ask again what another asks; --dedup exact keeps the best known of each."]
    for pair in content.get("shared", ()):
        shared = [f"the {name} of {pair[name]}" for name in ("question", "subject", "answer") if pair[name]]
        found += [f"{pair['split']} shares with {pair['test']}: {', '.join(shared)} examples."] if shared else []
    for line in found:
        out.note(line)


def note_missing(out: Output, unmeasured: int, output: Path, at_most: int | None) -> None:
    """Say how many examples have no score, and end with exit code 3 if they are more than was allowed."""
    if unmeasured:
        where = "" if str(output) == "-" else f"{output.name} "
        out.note(f"{unmeasured} examples have no score; the {where}columns *_status say why.")
    if at_most is not None and unmeasured > at_most:
        out.warn(f"{unmeasured} examples have no score, more than --max-missing {at_most}.")
        raise typer.Exit(EXIT_MISSING)
