"""The report: one self-contained HTML page. To add a part to it, write its template and add it to `SECTIONS`."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from curate.data.files import whole_file, write_text
from curate.display import percent
from curate.errors import as_option
from curate.records import contrast, is_untouched
from curate.report.figures import FIGURES, Drawing, Rows, heatmap_figure, label, palette, search_figure
from curate.settings import ValidateSettings

HEATMAPS = 3
"""Questions whose attention is shown."""


@dataclass(frozen=True)
class RunTables:
    """What a run's files hold: its summary, its manifest, and the rows of its tables, where it has such rows."""

    summary: Mapping[str, Any]
    manifest: Mapping[str, Any]
    predictions: Rows
    attention: Rows = ()
    maps: Rows = ()

    @property
    def arms(self) -> list[str]:
        """The names of the arms, the untouched model's among them."""
        return [row["arm"] for row in self.summary["arms"]]

    @cached_property
    def telling_maps(self) -> list[dict[str, Any]]:
        """The attention maps to show: of questions that the first arm of the `contrast` is right on and the second not.

        Each with its question, what the two arms answered (at the seed of the map), and their maps' rows by layer.
        """
        pair = contrast(self.arms)
        if pair is None:
            return []
        maps = _by_question([row for row in self.maps if row["arm"] in pair])
        said = _by_question([row for row in self.predictions if row["id"] in maps and row["arm"] in pair])
        order = sorted(maps, key=lambda id: -advantage(said[id], pair))
        return [
            {
                "question": said[id][pair[0]][0]["question"],
                "said": [row for arm in pair for row in said[id][arm] if row["seed"] == maps[id][arm][0]["seed"]],
                "layers": [sorted(maps[id][arm], key=lambda row: row["layer"]) for arm in pair],
            }
            for id in order[:HEATMAPS]
        ]


def _by_question(rows: Rows) -> dict[str, dict[str, list[Mapping[str, Any]]]]:
    """Rows by question, then arm."""
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["id"]][row["arm"]].append(row)
    return found


def advantage(said: Mapping[str, Rows], pair: tuple[str, str] | None) -> float:
    """How much more often one arm of a pair is right than the other on one question, over seeds: -1 to 1.

    Below that, questions the arms disagree on at all come before those they agree on.
    """
    shares = {arm: sum(row["correct"] for row in rows) / len(rows) for arm, rows in said.items() if rows}
    lead = shares.get(pair[0], 0) - shares.get(pair[1], 0) if pair else 0
    return lead + 1e-3 * (len(set(shares.values())) > 1)


def write_report(folder: Path, run: RunTables) -> None:
    """Draw a run's figures into its folder, in place of those an earlier one left there, and write its page."""
    drawings = draw_figures(run)
    pictures = folder / "figures"
    for earlier in [*pictures.glob("heatmap-*.png"), *(pictures / f"{name}.png" for name in FIGURES)]:
        if earlier.stem not in drawings:
            earlier.unlink(missing_ok=True)
    for name, drawing in drawings.items():
        with whole_file(pictures / f"{name}.png") as temporary:
            temporary.write_bytes(drawing.png())
    write_text(report_page(run, drawings), folder / "report.html")


def draw_figures(run: RunTables) -> dict[str, Drawing]:
    """Every figure the run has data for, by its name."""
    found = {name: (draw, rows_of(run.summary, run.attention)) for name, (draw, rows_of) in FIGURES.items()}
    drawings = {name: draw(rows) for name, (draw, rows) in found.items() if rows}
    return drawings | {f"heatmap-{n}": heatmap_figure(shown["layers"]) for n, shown in enumerate(run.telling_maps, 1)}


SECTIONS = {
    "answers": "What the models answer",
    "accuracy": "Accuracy",
    "differences": "Differences",
    "mix": "By how common the answer is",
    "knowledge": "What became of what the model knew",
    "popularity": "By popularity",
    "relations": "By relation",
    "attention": "Attention to the subject",
    "tasks": "Other tasks",
    "training": "Training",
    "leakage": "Shared with the training sets",
    "configuration": "Configuration",
}
"""The parts of the page in order: the name of its template in `templates/parts`, and its title. A template that leaves
nothing for a run has no part in its page."""


MEASURES = {
    "kept": "facts kept",
    "lost": "facts lost",
    "gained": "facts gained",
    "generic": "generic among wrong answers",
    "unmoved": "answers that stay for another subject",
    "surest_half": "accuracy on the surest half",
    "auroc": "right answers are surer (AUROC)",
}
"""What is measured of every arm under `knowledge`, in the order of the report."""


def measure_table(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a measure: its name, for each arm that was asked its row, and the difference of the `contrast`, if any."""
    found = summary.get("knowledge") or {"arms": (), "differences": ()}
    arms = list(dict.fromkeys(row["arm"] for row in found["arms"]))
    pair = contrast(arms)
    rows = {(row["measure"], row["arm"]): row for row in found["arms"]}
    between = {row["measure"]: row for row in found["differences"] if {row["a"], row["b"]} == set(pair or ())}
    return [
        {"name": name, "arms": {arm: rows.get((measure, arm)) for arm in arms}, "difference": between.get(measure)}
        for measure, name in MEASURES.items()
        if any((measure, arm) in rows for arm in arms)
    ]


RULES = {
    "contains": "An answer is right if an accepted one stands in it as whole words.",
    "exact": "An answer is right if it is an accepted one (SQuAD normalisation).",
    "f1": "The accuracy is the mean token F1 against the closest accepted answer (SQuAD normalisation).",
    "paper": "An answer is right if it contains an accepted one, also inside a word (the paper's rule).",
}
"""What the metric of a run counts as right."""


def report_page(run: RunTables, drawings: Mapping[str, Drawing]) -> str:
    """The page of a run, with the figures drawn for it."""
    from markupsafe import Markup

    answers = answers_table(run.predictions, run.arms)
    values = {
        "run": run,
        "summary": run.summary,
        "colours": palette(run.arms),
        # SVG as the drawing module made it, and JSON that cannot end its element: nothing else is trusted.
        "figures": {name: Markup(drawing.svg()) for name, drawing in drawings.items()},
        "reach": _reach(run.summary["differences"]),
        "tasks": task_table(run.summary.get("lm_eval", ()), run.arms),
        "answers": answers,
        "answers_data": Markup(answers.json),
        "pair": contrast(run.arms),
        "measures": measure_table(run.summary),
        "rule": RULES.get(run.summary["config"].get("metric"), "A function of the user's says how right an answer is."),
        **configuration(run.summary["config"], run.manifest),
    }
    parts = {name: render(f"parts/{name}.html.j2", **values) for name in SECTIONS}
    sections = [
        {"id": name, "title": SECTIONS[name], "html": Markup(html)} for name, html in parts.items() if html.strip()
    ]
    return render_page("report.html.j2", script="answers.js", told=header(run), summary=run.summary, sections=sections)


def header(run: RunTables) -> dict[str, str]:
    """What was asked of which model, with which data, how often, when, and by which command."""
    config, request = run.summary["config"], run.manifest.get("request", {})
    arms = [f"{label(row['arm'])} ({row['n_train']:,})" for row in run.summary["arms"] if row["n_train"]]
    asked = config.get("eval", {})
    told = {
        "Model": config["model"]["name"],
        "Trained on": ", ".join(arms),
        "Tested on": f"{asked.get('name', 'a test set')}, {run.summary['arms'][0]['n_eval']:,} questions",
        "Seeds": ", ".join(map(str, config.get("seeds", ()))),
        "Date": date.today().isoformat(),
    }
    if request:
        told["Command"] = command_of(request, asked.get("name", "TEST"), config["model"]["name"])
    return told


def command_of(request: Mapping[str, Any], test: str, model: str) -> str:
    """The command that makes such a run, with all that was not at its default; where the splits lie is not known."""
    plain = ValidateSettings()
    given = {"seeds": len(request["seeds"])} if len(request["seeds"]) != plain.seeds else {}
    defaults = {**plain.as_dict(), **plain.config.as_dict()}
    for name, value in {**request["settings"], **request["finetuning"]}.items():
        same = (tuple(value) if isinstance(value, list) else value) == defaults.get(name, value)
        if not same and name not in ("seeds", "lm_eval", "knowledge", "arm_shots"):
            given[name] = value
    given |= {"arm_shots": request["arm_shots"]} if request.get("arm_shots") else {}
    words = ["curate", "validate", "SPLITS", "--eval", test, "--model", model]
    for name, value in given.items():
        for each in value if isinstance(value, list) else [value]:
            words += [as_option(name, ""), str(each)]
    return shlex.join(words)


def runs_rows(runs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headers and a row a run: test questions, accuracies, the difference of the `contrast`, raw and at equal mix."""
    arms = list(dict.fromkeys(row["arm"] for run in runs for row in run["arms"]))
    pair = contrast(arms)
    headers = ["run", "questions", *(label(arm) for arm in arms)]
    headers += [f"{label(pair[0])} − {label(pair[1])}", "at equal answer mix"] if pair else []
    rows = []
    for run in runs:
        accuracy = {row["arm"]: f"{100 * row['accuracy']:.1f}" for row in run["arms"]}
        row = [run["file"], f"{run['arms'][0]['n_eval']:,}", *(accuracy.get(arm, "") for arm in arms)]
        found = next((d for d in run["differences"] if pair == (d["a"], d["b"])), None)
        for name, low, high in (("difference", "low", "high"), ("equal_mix", "equal_mix_low", "equal_mix_high")):
            if pair:
                values = [found[key] for key in (name, low, high) if found and found.get(key) is not None]
                row.append("{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * v for v in values)) if values else "")
        rows.append(row)
    return headers, rows


def runs_page(found: Mapping[str, Any]) -> str:
    """Several runs beside each other: `runs`, summaries with their `file`, and the `settings` that differ."""
    headers, rows = runs_rows(found["runs"])
    return render_page("runs.html.j2", runs=found["runs"], headers=headers, rows=rows, settings=found["settings"])


def search_page(found: Mapping[str, Any], last: Rows) -> str:
    """A search: its summary, and the last standing of every candidate with its `rows`."""
    from markupsafe import Markup

    seen = [rung["steps"] * found["plan"]["batch_size"] for rung in found["plan"]["schedule"]]
    rungs: dict[str, dict[int, float]] = defaultdict(dict)
    for row in found["standings"]:
        rungs[row["candidate"]][row["rung"]] = row["accuracy"]
    rows = [{**row, "accuracies": [rungs[row["candidate"]].get(n + 1) for n in range(len(seen))]} for row in last]
    picture = Markup(search_figure(found["standings"], last, seen).svg())
    return render_page("search.html.j2", found=found, rows=rows, picture=picture)


def _reach(differences: Rows) -> float:
    """How far the axis of the differences goes: as far as the intervals between finetuned arms.

    The untouched model is often so far below all of them that its differences would press the others flat.
    """
    finetuned = [d for d in differences if not (is_untouched(d["a"]) or is_untouched(d["b"]))] or differences
    return max((abs(d[side]) for d in finetuned for side in ("low", "high")), default=0) or 1


def configuration(settings: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the part of a page that shows settings and manifest needs."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False, default=str)
    return {"settings": list(flat(settings)), "manifest": text}


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as (name, value) pairs, names joined by dots."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("curate.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["points"] = lambda share: f"{100 * share:+.1f}".replace("-", "−")
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["place"] = lambda share, reach: f"{50 + 50 * max(-1, min(1, share / reach)):.2f}%"
    environment.filters["label"] = label
    return environment


def render(template: str, **values: Any) -> str:
    """A template of this package with its values; all text is escaped."""
    return str(_environment().get_template(template).render(values))


def render_page(template: str, script: str | None = None, **values: Any) -> str:
    """A template with the page's style and, where it has one, a script: the only one the page will run."""
    from markupsafe import Markup

    style, code = render("style.css"), render(script) if script else ""
    script_hash = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return render(template, style=Markup(style), script=Markup(code), script_hash=script_hash, **values)


def task_table(rows: Rows, arms: Sequence[str]) -> list[dict[str, Any]]:
    """A row a metric: `task`, `metric`, `n` questions, and for each arm `values` (mean, standard error).

    The error is that over seeds where there are several, else the one lm-eval gives, over the task's questions.
    Arms that were not asked have no value.
    """
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["task"], row["metric"]].append(row)
    return [
        {
            **{name: of_metric[0][name] for name in ("task", "metric", "n", "higher_is_better")},
            "values": [_over_seeds([row for row in of_metric if row["arm"] == arm]) for arm in arms],
        }
        for of_metric in found.values()
    ]


def _over_seeds(rows: Rows) -> tuple[float, float | None] | None:
    values = [float(row["value"]) for row in rows]  # an infinite perplexity is the text "inf" in summary.json
    if len(values) < 2:
        return (values[0], None if rows[0]["stderr"] is None else float(rows[0]["stderr"])) if values else None
    with np.errstate(invalid="ignore"):
        return float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5


BUDGET = 2_000_000
"""Bytes of a page that questions and answers may take; those beyond it are left to predictions.parquet."""
MOST_ALIASES = 40
"""Accepted answers shown of a question."""
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
    ordered = sorted(_by_question(predictions).values(), key=lambda said: -advantage(said, contrast(arms)))
    lines: list[str] = []
    used = 0
    for said in ordered:
        line = _json(_question(said, arms))
        used += len(line.encode()) + 1
        if used > budget:
            break
        lines.append(line)
    seeds = {arm: max(len(said[arm]) for said in ordered) for arm in arms}
    first = [arm for arm in arms if is_untouched(arm) or arm in (contrast(arms) or ())]
    about = _json(
        [
            {"label": label(arm), "seeds": seeds[arm], "first": int(arm in first), "untouched": int(is_untouched(arm))}
            for arm in arms
        ]
    )
    pair = _json([list(arms).index(arm) for arm in contrast(arms) or ()] or None)
    return Answers(
        f'{{"arms":{about},"pair":{pair},"rows":[{",".join(lines)}]}}', len(lines), len(ordered) - len(lines)
    )


def _question(said: Mapping[str, Rows], arms: Sequence[str]) -> list[Any]:
    """[question, accepted, percentile, relation, subject, said, disputed, known], said: [text, right, seeds]."""
    first = said[arms[0]][0]
    percentile = first["popularity_percentile"]
    return [
        _clip(first["question"]),
        [_clip(answer) for answer in first["answers"][:MOST_ALIASES]],
        None if percentile is None else round(percentile),
        first["relation"],
        first["subject"],
        [_distinct(said[arm]) for arm in arms],
        int(any(_disputed(row) for arm in arms for row in said[arm])),
        int(bool(first.get("known"))),
    ]


def _disputed(row: Mapping[str, Any]) -> bool:
    """Whether the metrics that say yes or no differ on an answer."""
    return len({row[name] for name in ("correct", "exact_match", "contains", "paper") if name in row}) > 1


def _distinct(rows: Rows) -> list[list[Any]]:
    counted = Counter((_clip(row["prediction"].strip()), int(row["correct"])) for row in rows)
    return [[text, right, seeds] for (text, right), seeds in counted.most_common()]


def _clip(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _json(content: Any) -> str:
    """JSON without `<`, so that no text in it can end the script element it stands in."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
