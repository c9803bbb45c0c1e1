"""Answers, and how right they are; tasks of lm-evaluation-harness, asked here or made of a run's own questions."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import re
import string
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq

from curate.data.files import check_own_folder, whole_folder
from curate.errors import DataError, OutputError, SettingError, setting
from curate.estimators import imported
from curate.estimators.loss import LossRequest, loss_request
from curate.lm.forward import adapters_merged
from curate.lm.generate import MAX_NEW_TOKENS, greedy_answers
from curate.lm.loss import answer_losses
from curate.lm.model import LoadedModel
from curate.prompts import Shots, Template, solution
from curate.records import Example


def contains_answer(output: str, answers: Sequence[str]) -> bool:
    """Paper B.2: some accepted answer, lower-cased and stripped, is contained in the lower-cased output.

    An empty answer never counts, since every text contains it.
    """
    given = output.lower().strip()
    return any(answer in given for answer in (a.lower().strip() for a in answers) if answer)


# Chinese, Japanese, Korean, Thai, Lao, Burmese, Khmer: words there are not parted by spaces, or grow endings.
UNPARTED = "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"


def contains_words(output: str, answers: Sequence[str]) -> bool:
    """The same, where the answer stands there as whole words: "th" is not in "the", nor "pol" in "politics"."""
    given = output.lower().strip()
    no_word_before, no_word_after = (rf"(?<![^\W{UNPARTED}])", rf"(?![^\W{UNPARTED}])")
    for answer in (a.lower().strip() for a in answers):
        # A sign at the edge of an answer (C++) is a boundary by itself.
        before = no_word_before if re.match(rf"[^\W{UNPARTED}]", answer) else ""
        after = no_word_after if re.search(rf"[^\W{UNPARTED}]$", answer) else ""
        if answer in given and answer and re.search(f"{before}{re.escape(answer)}{after}", given):
            return True
    return False


def exact_match(output: str, answers: Sequence[str]) -> bool:
    """Whether the output equals some accepted answer after SQuAD normalisation."""
    return any(normalise(output) == normalise(answer) for answer in answers if normalise(answer))


def token_f1(output: str, answers: Sequence[str]) -> float:
    """The best token F1 against any accepted answer after SQuAD normalisation, in [0, 1]."""
    given = Counter(normalise(output).split())
    best = 0.0
    for right in (Counter(normalise(answer).split()) for answer in answers):
        common = (given & right).total()
        if common:
            precision, recall = common / given.total(), common / right.total()
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def normalise(text: str) -> str:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    lowered = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", lowered).split())


Metric = Callable[[str, Sequence[str]], float]
"""How right an output is, from 0 to 1, given the accepted answers."""

METRICS: dict[str, Metric] = {
    "contains": contains_words,
    "exact": exact_match,
    "f1": token_f1,
    "paper": contains_answer,
}


def find_metric(name: str) -> Metric:
    """The metric of that name, or a function of somebody's module, `module:function`; SettingError if there is none."""
    if name in METRICS:
        return METRICS[name]
    module, _, function = name.partition(":")
    if not function:
        raise SettingError(
            f"There is no metric {name!r}.",
            expected=f"{setting('metric')} with one of: {', '.join(METRICS)}, or a function of yours, module:function",
        )
    try:
        found = imported(module, function)
        inspect.signature(found).bind("an output", ["an answer"])
    except Exception as error:
        raise SettingError(
            f"{setting('metric', name)} cannot be used: {type(error).__name__}: {error}.",
            expected="a function of an output and its accepted answers, which gives a number from 0 to 1",
            try_next=f'python -c "import {module}"',
        ) from error

    def metric(output: str, answers: Sequence[str]) -> float:
        try:
            value = float(found(output, list(answers)))
        except Exception as error:
            raise SettingError(
                f"{name} failed on {output!r}: {type(error).__name__}: {error}.", expected="a number from 0 to 1"
            ) from error
        if not 0 <= value <= 1:
            raise SettingError(f"{name} gave {value} for {output!r}.", expected="a number from 0 to 1")
        return value

    return metric


def metric_version(name: str) -> str:
    """The name of a metric, and a hash of its module's text where that is the user's own."""
    if name in METRICS:
        return name
    find_metric(name)
    try:
        source = inspect.getsource(sys.modules[name.partition(":")[0]])
    except OSError:
        source = ""
    return f"{name} {hashlib.sha256(source.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered to one test example, and how right that was.

    `mark` is what the metric of the run says, from 0 to 1, `correct` whether that is at least a half; the others are
    what the metrics `contains`, `paper`, `exact` and `f1` say, whatever the run goes by.
    """

    id: str
    prediction: str
    correct: bool
    exact_match: bool
    f1: float
    mark: float
    contains: bool
    paper: bool

    @property
    def disputed(self) -> bool:
        """Whether two of the metrics that say yes or no differ."""
        return len({self.correct, self.exact_match, self.contains, self.paper}) > 1


def marked(example: Example, template: Template, said: str, metric: Metric = contains_words) -> Prediction:
    """The answer `said` with how right it is; in multiple choice it is a letter, right or not whatever the metric."""
    if template.multiple_choice:
        right = said == solution(template, example)
        return Prediction(example.id, said, right, right, float(right), float(right), right, right)
    answers = example.answers
    mark, f1 = float(metric(said, answers)), token_f1(said, answers)
    exact, contains, paper = (rule(said, answers) for rule in (exact_match, contains_words, contains_answer))
    return Prediction(example.id, said, mark >= 0.5, exact, f1, mark, contains, paper)


def evaluate(
    loaded: LoadedModel,
    examples: Sequence[Example],
    template: Template,
    shots: Shots | None = None,
    metric: Metric = contains_words,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[Prediction]:
    """The model's answer to every example, in order, with how right it is; zero-shot without `shots`."""
    said = answers_of(loaded, examples, template, shots, max_new_tokens)
    return [marked(e, template, text, metric) for e, text in zip(examples, said, strict=True)]


def answers_of(
    loaded: LoadedModel,
    examples: Sequence[Example],
    template: Template,
    shots: Shots | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[str]:
    """What the model says to every example, in order: greedy, at most so many tokens, the first line.

    With a template that shows choices it is the letter whose token the model holds for the most likely one; nothing is
    generated.
    """
    shots = shots or Shots(template)
    with adapters_merged(loaded):
        if template.multiple_choice:
            return _letters(loaded, [loss_request(example, template, shots, "first") for example in examples])
        return greedy_answers(loaded, [shots.prefix(e) + template.ask(e) for e in examples], max_new_tokens)


def _letters(loaded: LoadedModel, requests: Sequence[LossRequest]) -> list[str]:
    """The letter with the lowest loss of each question: for letters of one token, the argmax of next-token scores.

    A question that does not fit into the model's context has no answer and counts as wrong.
    """
    losses = iter(answer_losses(loaded, [pair for request in requests for pair in request.pairs]))
    letters = []
    for request in requests:
        nats = [next(losses).nats for _ in request.pairs]
        measured = [(value, letter) for value, letter in zip(nats, request.answers, strict=True) if value is not None]
        letters.append(min(measured)[1] if measured else "")
    return letters


def answer_tokens(loaded: LoadedModel, examples: Sequence[Example], template: Template) -> list[list[int]]:
    """How many tokens each accepted answer of each example takes, its leading space included."""
    texts = [template.render_completion(answer) for e in examples for answer in e.answers]
    ids = loaded.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    lengths = iter(map(len, ids))
    return [[next(lengths) for _ in e.answers] for e in examples]


class Asked(Protocol):
    """Something that a finetuned model is asked beside the test set, at once or from its saved adapter."""

    @property
    def title(self) -> str:
        """What it is, in a line on progress."""

    def fingerprint(self) -> dict[str, Any]:
        """What could change its outcome, the model and its answers aside."""

    def ask(self, loaded: LoadedModel, said: Sequence[str]) -> Any:
        """The outcome, to be kept as JSON, as the model now is; `said` are its answers to the test set."""


@dataclass(frozen=True)
class FewShot:
    """The test set after solved examples."""

    examples: Sequence[Example]
    template: Template
    shots: Shots
    max_new_tokens: int

    @property
    def title(self) -> str:
        """What it is, in a line on progress."""
        return f"after {self.shots.count} solved examples"

    def fingerprint(self) -> dict[str, Any]:
        """The solved examples."""
        return {"few_shot": self.shots.fingerprint()}

    def ask(self, loaded: LoadedModel, said: Sequence[str]) -> list[str]:
        """The answers."""
        return answers_of(loaded, self.examples, self.template, self.shots, self.max_new_tokens)


@dataclass(frozen=True)
class Knowledge:
    """Questions about other subjects, as far as there are such, and how sure the model is of its answers."""

    examples: Sequence[Example]
    swapped: Sequence[Example | None]
    template: Template
    shots: Shots
    max_new_tokens: int
    title: str = "other subjects, and how sure it is"

    def fingerprint(self) -> dict[str, Any]:
        """A hash of the other questions."""
        texts = [e and e.question for e in self.swapped]
        return {"swapped": hashlib.sha256(repr(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]}

    def ask(self, loaded: LoadedModel, said: Sequence[str]) -> dict[str, Any]:
        """`swapped`, the answers about the other subjects, and `nats`, the loss of each answer of its own."""
        other = [e for e in self.swapped if e is not None]
        about = iter(answers_of(loaded, other, self.template, self.shots, self.max_new_tokens))
        pairs = [
            (self.shots.prefix(e) + self.template.ask(e), self.template.render_completion(text.strip()))
            for e, text in zip(self.examples, said, strict=True)
        ]
        with adapters_merged(loaded):
            losses = answer_losses(loaded, pairs)
        swapped = [None if e is None else next(about) for e in self.swapped]
        return {"swapped": swapped, "nats": [loss.nats for loss in losses]}


CPU_BATCH = 8

Row = Mapping[str, Any]
"""One metric of a task: `task`, `metric`, `value`, `stderr` over the task's questions, `n`, `higher_is_better`."""


@dataclass(frozen=True)
class Task:
    """A task that is asked, ready to run; `own` is a hash of its file, where it is the user's own."""

    name: str
    own: str | None
    manager: Any
    limit: int | None = None

    def fingerprint(self) -> dict[str, Any]:
        """What could change its numbers, the model aside."""
        return {"task": self.name, "own": self.own, "limit": self.limit, "lm_eval": version("lm_eval")}

    @property
    def title(self) -> str:
        """What it is, in a line on progress."""
        return f"{self.name} of lm-eval"

    def ask(self, loaded: LoadedModel, said: Sequence[str]) -> list[Row]:
        """Its metrics, as the model now answers; of a group of tasks those of the group."""
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        batch_size = CPU_BATCH if loaded.device.type == "cpu" else "auto"
        with _silence():
            model = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch_size)
            found = lm_eval.simple_evaluate(
                model, tasks=[self.name], task_manager=self.manager, limit=self.limit, log_samples=False
            )
        assert found is not None, "only processes other than the first get nothing"
        return metric_rows(found)


def find_tasks(names: Sequence[str], limit: int | None = None) -> list[Task]:
    """The tasks of these names, or of these YAML files, their data loaded; each once.

    Raises SettingError now, before anything is trained, when a task or lm-eval itself is missing.
    """
    if not names:
        return []
    try:
        import lm_eval.tasks
    except ImportError as error:
        raise SettingError(
            f"{setting('lm_eval')} needs lm-evaluation-harness, which is not installed.",
            try_next="pip install 'curate-qa[lm-eval]'",
        ) from error
    hashes: dict[str, str | None] = {}
    folders = set()
    for name in names:
        if Path(name).suffix in (".yaml", ".yml"):
            task, own = _read_task(Path(name))
            hashes[task] = own
            folders.add(str(Path(name).parent))
        else:
            hashes.setdefault(name, None)
    with _silence():
        manager = lm_eval.tasks.TaskManager(
            include_path=sorted(folders) or None, include_defaults=None in hashes.values()
        )
        for task in hashes:
            try:
                lm_eval.tasks.get_task_dict([task], manager)
            except Exception as error:  # a task is other people's code and data: anything can go wrong in it
                raise SettingError(
                    f"The task {task!r} of lm-eval cannot be loaded: {type(error).__name__}: {error}",
                    expected="a task of lm-evaluation-harness with its data at hand, or a task's YAML file",
                    try_next="lm_eval ls tasks, for their names",
                ) from error
    return [Task(task, own, manager, limit) for task, own in hashes.items()]


def metric_rows(found: Mapping[str, Any]) -> list[Row]:
    """The metrics in a result of lm-eval, those of a group for the group and not for its members."""
    members = {task for tasks in found.get("group_subtasks", {}).values() for task in tasks}
    rows: list[Row] = []
    for task, values in found["results"].items():
        for key, value in values.items():
            metric, _, filtered = key.partition(",")
            if task in members or metric.endswith("_stderr") or not isinstance(value, float):
                continue
            stderr = values.get(f"{metric}_stderr,{filtered}")
            rows.append(
                {
                    "task": task,
                    "metric": metric if filtered == "none" else key,
                    "value": float(value),
                    "stderr": float(stderr) if isinstance(stderr, float) else None,
                    "n": found["n-samples"].get(task, {}).get("effective"),
                    "higher_is_better": found["higher_is_better"].get(task, {}).get(metric),
                }
            )
    return rows


def _read_task(path: Path) -> tuple[str, str]:
    """The name that a task's file gives it, and a hash of the file; its functions are not to be run for that."""
    if not path.is_file():
        raise SettingError(f"There is no file {path}.", expected="the YAML file of a task of lm-evaluation-harness")
    text = path.read_text(encoding="utf-8")
    name = re.search(r"^(?:task|group):\s*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
    if name is None:
        raise SettingError(f"{path} does not say what its task is called.", expected="a line such as `task: my_task`")
    return name[1], hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _silence() -> Iterator[None]:
    """While it lasts, lm-eval's progress bars and remarks go nowhere; its errors are raised all the same.

    The file descriptor too: lm-eval asks git for its version, and git complains where there is no repository.
    """
    sys.stderr.flush()
    with Path(os.devnull).open("w") as nowhere, ExitStack() as undo:
        undo.callback(os.close, kept := os.dup(2))
        undo.callback(os.dup2, kept, 2)
        os.dup2(nowhere.fileno(), 2)
        undo.enter_context(redirect_stderr(nowhere))
        undo.enter_context(redirect_stdout(nowhere))
        undo.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.WARNING)
        yield


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
