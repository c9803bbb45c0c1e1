"""The questions of a run as a task of lm-evaluation-harness, and cards that say how its adapters were made."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curate.data.files import check_own_folder, whole_folder
from curate.errors import DataError, OutputError, setting
from curate.prompts import Template
from curate.records import Example
from curate.validation.evaluate import UNPARTED, contains_answer, contains_words, exact_match, normalise

TASK = """\
# The test questions of a run of curate, asked as it asked them; for lm-evaluation-harness:
#   lm_eval --model hf --model_args pretrained=MODEL --tasks {name} --include_path FOLDER
task: {name}
custom_dataset: !function marks.questions
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: " {{{{answers[0]}}}}"
process_results: !function marks.marks
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: {tokens}
  do_sample: false
metric_list:
  - {{metric: contains, aggregation: mean, higher_is_better: true}}
  - {{metric: paper, aggregation: mean, higher_is_better: true}}
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
metadata:
  version: 1
"""

MARKS = '''\
"""How right an answer is, as curate marks it."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path

UNPARTED = {unparted}


{rules}


def questions(**given):
    import datasets

    file = str(Path(__file__).with_name("test.jsonl"))
    return {{"test": datasets.load_dataset("json", data_files={{"test": file}}, split="test")}}


def marks(doc, results):
    said, answers = results[0].split("\\n")[0], doc["answers"]
    rules = {{"contains": contains_words, "paper": contains_answer, "exact_match": exact_match}}
    return {{name: float(rule(said, answers)) for name, rule in rules.items()}}
'''
RULES = (contains_answer, contains_words, exact_match, normalise)


def export_task(run: str | Path, output: str | Path, name: str | None = None, force: bool = False) -> dict[str, Any]:
    """Write the test questions of a finished run as a task: `NAME.yaml`, its data and its marks.

    Others can so ask their models the same questions, in the same words, marked by the same rules. DataError for a
    folder that is no finished run, and for questions with choices; OutputError for a folder that is somebody else's, or
    that holds a task already, unless `force`.
    """
    run, output = Path(run), Path(output)
    try:
        manifest = json.loads((run / "manifest.json").read_bytes())
        rows = pq.read_table(run / "predictions.parquet").to_pylist()
        template = Template(**manifest["template"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{run} is no finished validation.",
            expected="the folder that curate validate wrote",
            try_next="curate validate",
        ) from error
    if template.multiple_choice:
        raise DataError(
            "The questions of this run have choices, which are not in its predictions.", expected="answers in words"
        )
    check_own_folder(output, "marks.py", "curate export-task")
    if (output / "marks.py").exists() and not force:
        raise OutputError(f"{output} holds a task already.", expected="a new folder", try_next=setting("force"))
    named = re.sub(r"\W+", "_", name or f"curate_{run.resolve().name}")
    asked = {row["id"]: row for row in rows}.values()
    lines = [
        {
            "id": row["id"],
            "prompt": template.zero_shot(Example("", row["question"], (), row["subject"], row["relation"])),
            "answers": row["answers"],
            "relation": row["relation"],
        }
        for row in asked
    ]
    with whole_folder(output, replace=True) as folder:
        (folder / "test.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        (folder / f"{named}.yaml").write_text(TASK.format(name=named, tokens=manifest["max_new_tokens"]))
        rules = "\n\n".join(inspect.getsource(rule) for rule in RULES).rstrip()
        (folder / "marks.py").write_text(MARKS.format(unparted=ascii(UNPARTED), rules=rules))
    return {"output": str(output), "task": named, "questions": len(lines)}


def adapter_card(summary: Mapping[str, Any], arm: str, seed: int, config: Mapping[str, Any], steps: int) -> str:
    """The model card of one adapter: what it was made from and how, what came of it, and how to use it."""
    settings = summary["config"]
    model, test = settings["model"]["name"], settings["eval"]
    row = next(row for row in summary["arms"] if row["arm"] == arm)
    others = [f"| {r['arm']} | {r['n_train']:,} | {100 * r['accuracy']:.1f} |" for r in summary["arms"]]
    hub = (
        [f"base_model: {json.dumps(model)}"]
        if re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not Path(model).exists()
        else []
    )
    made = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in config.items() if value is not None)
    return "\n".join(
        [
            "---",
            *hub,
            "library_name: peft",
            "pipeline_tag: text-generation",
            "tags:",
            "- lora",
            "- curate",
            "---",
            "",
            f"# {model}, finetuned on `{arm}` (seed {seed})",
            "",
            f"A {config['method']} adapter on `{model}` (revision {settings['model']['revision']}). It was trained by "
            f"`curate validate` on the {row['n_train']:,} questions of the split `{arm}`, for {steps} steps, to see "
            "which questions are worth finetuning on.",
            "",
            "| arm | questions | accuracy %, mean of the seeds |",
            "|---|---:|---:|",
            *others,
            "",
            f"Tested on {row['n_eval']:,} questions of `{test['name']}` (SHA-256 {test['sha256'][:16]}…), metric "
            f"`{settings['metric']}`. {summary['verdict']}",
            "",
            f"How: {made}. Prompt: `{json.dumps(settings['template']['prompt'])[1:-1]}`, then "
            f"`{json.dumps(settings['template']['completion'])[1:-1]}`.",
            "",
            "```python",
            "from peft import AutoPeftModelForCausalLM",
            "",
            'model = AutoPeftModelForCausalLM.from_pretrained("THIS FOLDER")',
            "```",
            "",
            "```sh",
            f"vllm serve {model} --enable-lora --max-lora-rank {config['lora_rank']} --lora-modules {arm}=THIS_FOLDER",
            "```",
            "",
        ]
    )
