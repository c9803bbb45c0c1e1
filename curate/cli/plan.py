"""What `curate score --dry-run` tells: which rows, as what they are read, and what scoring them would cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from curate.data.columns import columns_read
from curate.data.table import QATable
from curate.estimators.pageviews import PageViewsEstimator
from curate.estimators.registry import build, check_loss, read_shots
from curate.records import Example
from curate.scoring import CHUNK, ScoringJob, check_names, even_batches


def score_plan(job: ScoringJob, output: Path) -> tuple[dict[str, Any], list[str]]:
    """The plan as values and as lines; no model is loaded, no server asked, and no column read without need.

    Raises what the run would raise before it begins.
    """
    rows, options = job.rows, job.options
    stretch = range(len(rows)) if job.shard is None else job.shard.stretch(len(rows))
    others = {spec: build(spec, options) for spec in job.specs if spec != "loss"}
    check_names(rows, list(others.values()))
    plan: dict[str, Any] = {
        "dry_run": True,
        "rows": len(stretch),
        "columns": rows.roles.as_dict(),
        "estimators": job.specs,
        "output": str(output),
    }
    part = "" if job.shard is None else f"shard {job.shard}: {len(stretch)} of "
    lines = [f"{part}{len(rows)} examples of {rows.name}; columns {roles_line(rows)}", f"by {', '.join(job.specs)}"]
    if "loss" in job.specs:
        plan["loss"], line = _reading(job, stretch)
        lines.append(line)
    if "pageviews" in job.specs and not options.pageviews.views_from.startswith("column:"):
        estimator: Any = others["pageviews"]
        examples = (example for chunk in _chunks(rows, stretch, estimator.columns) for example in chunk)
        plan["pageviews"], line = plan_lookups(estimator, examples)
        lines.append(line)
    return plan, [*lines, f"would write {output}"]


def roles_line(rows: QATable) -> str:
    """The columns by role: `question=question, answers=possible_answers`."""
    return ", ".join(f"{role}={name}" for role, name in rows.roles.as_dict().items() if name)


def _reading(job: ScoringJob, stretch: range) -> tuple[dict[str, int], str]:
    """How much text the model would read: what is there twice in a chunk is read once."""
    from curate.estimators.loss import ask
    from curate.lm.model import load_tokenizer
    from curate.prompts import find_template

    options = job.options
    check_loss(options)
    template = find_template(options.template)
    shots = read_shots(template, options)
    tokenizer = load_tokenizer(options.model, options.revision)
    sequences = tokens = 0
    for chunk in _chunks(job.rows, stretch):
        asks = [ask(example, template, shots, options.answers) for example in chunk]
        texts = {prompt + completion for asked in asks for prompt, completion in asked.pairs}
        sequences += len(texts)
        tokens += sum(map(len, tokenizer(list(texts))["input_ids"])) if texts else 0
    counts = {"sequences": sequences, "tokens": tokens}
    return counts, f"loss: {sequences} sequences, {tokens} tokens through {options.model}"


def _chunks(rows: QATable, stretch: range, extra: Sequence[str] = ()) -> Iterator[list[Example]]:
    """The examples of a stretch of rows, a chunk at a time, from the columns that they need."""
    names = columns_read([*rows.roles.fields(), *extra], rows.schema.names)
    for batch in even_batches(rows.batches(names, stretch), CHUNK):
        yield list(rows.examples_of(batch, extra=extra))


def plan_lookups(estimator: PageViewsEstimator, examples: Iterable[Example]) -> tuple[dict[str, Any], str]:
    """What a dry run tells: the subjects, and the requests at most, as values and as a line."""
    from curate.wikipedia.client import BATCH

    found = Counter(estimator.finder.find(example) for example in examples)
    without = found.pop(None, 0)
    subjects = len(found)
    content: dict[str, Any] = {"subjects": subjects, "without_subject": without}
    line = f"pageviews: {subjects} subjects, {without} examples without one"
    if not estimator.source.in_bulk:
        content["requests_at_most"] = requests = subjects + -(-subjects // BATCH)
        line += f"; at most about {requests} requests, fewer by what is in the cache"
    return content, line
