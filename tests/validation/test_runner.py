from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate
from curate import settings as tune
from curate.checkpoint import Checkpoint
from curate.errors import OutputError
from curate.prompts import DEFAULT
from curate.records import Example
from curate.settings import FinetuneConfig
from curate.validation import finetune
from curate.validation.arms import Arm, read_inputs
from curate.validation.results import Validation
from curate.validation.runner import shots_from
from tests.validation.made import COLOURED, SHORT, TO_THE_END


def test_what_a_stopped_run_with_other_settings_kept_is_removed_once_a_run_is_whole(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path
) -> None:
    def stop(line: str) -> None:
        if "seed 1" in line:
            raise KeyboardInterrupt

    def run(folder: str, steps: int, progress: Callable[[str], None] | None = None) -> set[str]:
        config = FinetuneConfig(learning_rate=1e-2, max_steps=steps, batch_size=4)
        with suppress(KeyboardInterrupt):
            curate.validate(
                {"films": films},
                eval=films,
                model=tiny_model("llama"),
                output=tmp_path / folder,
                seeds=2,
                config=config,
                progress=progress,
            )
        return {path.name for path in (tmp_path / folder / ".parts").iterdir()}

    stopped = run("changed", 2, stop)
    assert len(stopped) == 2, "the untouched model and an arm with a seed"
    changed, alone = run("changed", 3), run("alone", 3)
    assert changed == alone
    assert len(stopped & changed) == 1, "the untouched model is the same"


def test_what_a_template_may_name_is_part_of_the_key_of_what_is_kept() -> None:
    example = Example("1", "In what city was he born?", ("Paris",), subject="Zola", relation="birthplace")
    others = [replace(example, relation="place"), replace(example, subject="Manet"), example]
    prints = [Arm("top", [e], 0).fingerprint for e in (*others, example)]
    assert [found == prints[-1] for found in prints] == [False, False, True, True]


def test_the_same_call_resumes_and_ends_with_the_same_numbers(
    run: tuple[Path, Validation], tiny_model: Callable[[str], Path]
) -> None:
    folder, first = run
    kept = sorted((folder / ".parts").iterdir())
    assert len(kept) == 1 + 3 * 2
    lost = next(path for path in kept if Checkpoint(path.parent).get(path.stem)["arm"] == "top")
    lost.unlink()
    cards = {path: path.read_bytes() for path in folder.rglob("README.md")}
    said: list[str] = []
    again = curate.validate(
        folder.parent / "splits",
        eval=folder.parent / "scored.parquet",
        model=tiny_model("llama"),
        output=folder,
        seeds=2,
        config=SHORT,
        progress=said.append,
    )
    assert again.summary() == first.summary()
    assert sum("done earlier" in line for line in said) >= 5
    assert len(cards) == 6 and cards == {path: path.read_bytes() for path in folder.rglob("README.md")}


def test_a_full_disk_is_told_and_loses_nothing(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for what the untouched model answered, not for what the arm did."""
    said: list[str] = []

    def run() -> Validation:
        config = FinetuneConfig(learning_rate=1e-2, max_steps=2, batch_size=4)
        model = tiny_model("llama")
        return curate.validate(
            {"films": films}, eval=films, model=model, output=tmp_path, seeds=1, config=config, progress=said.append
        )

    def full(descriptor: int) -> None:
        if list((tmp_path / ".parts").glob("*.json")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("curate.data.files.os.fsync", full)
        with pytest.raises(OutputError, match="No space left on device"):
            run()
    assert len(list((tmp_path / ".parts").glob("*.json"))) == 1
    assert list((tmp_path / ".parts").glob("*/checkpoint-*")), "its training is kept too"
    assert not list(tmp_path.rglob("*.tmp"))
    said.clear()
    assert len(run().runs) == 2
    assert not any(line.startswith("base:") for line in said)


@contextmanager
def room_for_files_of(size: int) -> Iterator[None]:
    """Every file that grows beyond so many bytes cannot be written, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_whatever_does_not_fit_is_told_and_the_same_command_goes_on(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The room grows from nothing until all is there; once for what trains, and once for what is told of it."""
    grown, told = tmp_path / "grown", list[str]()

    def run(folder: Path) -> None:
        config = FinetuneConfig(learning_rate=1e-2, max_steps=2, batch_size=4)
        curate.validate({"films": films}, eval=films, model=tiny_model("llama"), output=folder, seeds=1, config=config)

    def run_with_growing_room() -> None:
        size = 64
        while not (grown / "manifest.json").exists():
            try:
                with room_for_files_of(size):
                    run(grown)
            except OutputError as error:
                told.append(str(error))
            assert not list(grown.rglob(".*tmp"))
            size *= 4

    run(tmp_path / "whole")
    run_with_growing_room()
    for path in [*grown.glob("*.*"), *grown.glob("figures/*")]:
        path.unlink() if path.is_file() else None
    run_with_growing_room()
    failed = {Path(message.partition(" cannot be written")[0]) for message in told}
    assert {"", ".json", ".parquet", ".png", ".html"} <= {path.suffix for path in failed}, "checkpoints have no suffix"
    for name in ("summary.json", "predictions.parquet", "curves.parquet", "trials.parquet"):
        assert (grown / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(grown.glob(".parts/*/"))


def test_accuracy_along_training_is_that_of_the_model_as_it_is_by_then_and_changes_nothing(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path
) -> None:
    to_the_end = FinetuneConfig(learning_rate=2e-2, epochs=3, batch_size=4, held_out=0)
    results = [
        curate.validate(
            {"top": films}, eval=films, model=tiny_model("llama"), output=tmp_path / str(k), config=to_the_end, along=k
        )
        for k in (0, 1000)
    ]
    without, along = [[run for run in result.runs if run.arm == "top"] for result in results]
    assert [run.predictions for run in along] == [run.predictions for run in without]
    assert all(row["test_accuracy"] is None for run in without for row in run.training)
    for run in along:
        right = sum(p.correct for p in run.predictions) / len(films)
        assert [row["epoch"] for row in run.training] == [1, 2, 3]
        assert run.training[-1]["test_accuracy"] == right
    (row,) = results[1].along_rows()
    assert row["kept"] == row["last"] == results[1].arm_rows()[1]["accuracy"]
    assert "test-accuracy" in {path.stem for path in (tmp_path / "1000" / "figures").iterdir()}


def test_what_is_fitted_and_what_the_last_step_is_worth_are_told_by_class(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """Answers of one word are learned by heart; those that contradict each other cannot be."""
    rows = [{**row, "known_class": "HighlyKnown"} for row in COLOURED]
    torn = [
        {"question": "What is it?", "answer": answer, "known_class": "Unknown"}
        for answer in ("red", "blue", "red", "blue")
    ]
    mixed = rows + torn
    model, config = tiny_model("llama"), FinetuneConfig(learning_rate=2e-2, epochs=14, batch_size=4, held_out=0)
    result = curate.validate(
        {"known": mixed[:6], "torn": torn, "whole": mixed}, eval=COLOURED, model=model, output=tmp_path / "run",
        seeds=2, config=config,
    )  # fmt: skip
    assert result.inputs.banded_by == "known_class"
    last = {(row["arm"], row["band"]): row for row in result.fitting if row["epoch"] == 14}
    assert last["known", "HighlyKnown"]["fitted"] == 1 and last["known", "HighlyKnown"]["n"] == 12
    assert last["torn", "Unknown"]["fitted"] == 0.5, "two of the four, whichever it says"
    assert last["whole", "HighlyKnown"]["fitted"] > last["whole", "Unknown"]["fitted"] <= 0.5
    first = next(row for row in result.fitting if row["arm"] == "known")
    assert first["epoch"] == 1 and first["band"] == "all" and first["fitted"] < 1
    assert result.law is not None and result.law["n"] == 6
    assert all(row["kept"] == row["last"] for row in result.checkpoints), "with nothing held out the last step is kept"
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["training"][-1]["fitted"] == pytest.approx(last["whole", "all"]["fitted"], abs=0.2)
    assert "Unknown" in (tmp_path / "run" / "report.html").read_text()


def test_the_last_step_is_asked_where_another_one_is_kept(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The held-out answers are of a kind of their own, so that learning the others by heart does not help for long."""
    rows = [*COLOURED, *({"question": film["question"], "answer": film["answers"][0]} for film in films)]
    config = FinetuneConfig(learning_rate=5e-2, epochs=12, batch_size=4, held_out=0.3, patience=3)
    result = curate.validate(
        {"a": rows}, eval=rows, model=tiny_model("llama"), output=tmp_path / "run", seeds=3, config=config
    )
    early = [run for run in result.runs if run.last]
    assert early and all(run.steps < run.training[-1]["step"] for run in early)
    assert all(not run.last for run in result.runs if run.training and run.steps == run.training[-1]["step"])
    (row,) = result.checkpoints
    of_last = [[p.mark for p in (run.last or run.predictions)] for run in result.runs if run.arm == "a"]
    assert row["last"] == pytest.approx(sum(map(sum, of_last)) / (3 * len(rows)))
    assert row["kept"] == pytest.approx(result.arm_rows()[1]["accuracy"])
    assert row["change"] == pytest.approx(row["last"] - row["kept"])
    assert row["low"] <= row["change"] <= row["high"]


def test_another_metric_marks_the_answers_that_are_kept(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path
) -> None:
    def run(metric: str, tokens: int | None = None, force: bool = False) -> tuple[Validation, list[str]]:
        said: list[str] = []
        model, config = tiny_model("llama"), replace(TO_THE_END, max_steps=12)
        result = curate.validate(
            {"a": films}, eval=films, model=model, output=tmp_path / "run", seeds=1, config=config,
            metric=metric, max_new_tokens=tokens, force=force, progress=said.append,
        )  # fmt: skip
        return result, said

    first, _ = run("contains")
    assert first.config["max_new_tokens"] >= 10 and not any("accepted answer of" in w for w in first.warnings())
    with pytest.raises(OutputError, match="metric contains, not f1"):
        run("f1")
    second, said = run("f1", force=True)
    assert said == ["a, seed 0: done earlier"]
    assert [row["accuracy"] for row in second.arm_rows()] == [row["f1"] for row in first.arm_rows()]
    short, said = run("exact", tokens=1, force=True)
    assert any("have no accepted answer of at most 1 tokens" in warning for warning in short.warnings())
    assert said[0].startswith("base: ")


TRIED = FinetuneConfig(max_steps=2, batch_size=4, held_out=0.3)


def test_every_arm_is_tuned_alike_and_trained_with_what_did_best(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path
) -> None:
    said: list[str] = []

    def run() -> None:
        curate.validate(
            {"a": films, "b": films[:5]},
            eval=films,
            model=tiny_model("llama"),
            output=tmp_path / "run",
            seeds=1,
            config=TRIED,
            tune="quick",
            progress=said.append,
        )

    run()
    rows = pq.read_table(tmp_path / "run" / "trials.parquet").to_pylist()
    trials, evaluated = [r for r in rows if r["seed"] != 0], [r for r in rows if r["seed"] == 0]
    assert [(t["arm"], t["learning_rate"]) for t in trials] == [(arm, r) for arm in "ab" for r in (1e-5, 1e-4, 1e-3)]
    for arm, used in zip("ab", evaluated, strict=True):
        (chosen,) = [t for t in trials if t["arm"] == arm and t["chosen"]]
        assert used["learning_rate"] == chosen["learning_rate"]
        assert chosen["validation_accuracy"] == max(t["validation_accuracy"] for t in trials if t["arm"] == arm)
    assert sum("trial" in line for line in said) == 6
    said.clear()
    run()
    assert not any("trial" in line for line in said), "trials are kept"


def test_a_setting_with_which_training_diverges_is_not_taken_and_is_told(
    tiny_model: Callable[[str], Path], films: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "LEARNING_RATES", (1e38, 1e-3))
    model, output = tiny_model("llama"), tmp_path / "run"
    config = replace(TRIED, max_steps=1)
    tried = curate.validate(
        {"a": films[:5]}, eval=films[:2], model=model, output=output, seeds=1, config=config, tune="quick"
    )
    assert [(t.config.learning_rate, t.chosen) for t in tried.trials] == [(1e38, False), (1e-3, True)]
    base, arm = tried.runs
    diverged = replace(tried, runs=[base, replace(arm, training=[{"held_out_loss": float("nan")}])])
    assert set(diverged.warnings()) - set(tried.warnings()) == {
        "Training on a with seed 0 diverged; try a lower --learning-rate."
    }


DONE = "top, seed 0: done earlier"


AGAIN = "top, seed 0: nothing of its weights is kept; finetuning again for --lm-eval"


@pytest.mark.filterwarnings("ignore")
def test_a_task_of_ones_own_is_asked_of_every_arm_once(
    tiny_model: Callable[[str], Path], task: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval")

    def run(progress: Callable[[str], None]) -> dict[str, Any]:
        found = curate.validate(
            {"top": COLOURED, "whole": COLOURED[:4]},
            eval=COLOURED,
            model=tiny_model("llama"),
            output=tmp_path / "run",
            seeds=1,
            config=TO_THE_END,
            base_shots=2,
            lm_eval=[str(task)],
            progress=progress,
        )
        return found.summary()

    first = run(lambda line: None)
    asked = {row["arm"]: row for row in first["lm_eval"]}
    assert list(asked) == ["base", "top", "whole"]
    assert all(row["task"] == "colours" and row["n"] == 6 and row["higher_is_better"] for row in asked.values())
    ours = {row["arm"]: row["exact_match"] for row in first["arms"]}
    assert {arm: row["value"] for arm, row in asked.items()} == {arm: ours[arm] for arm in asked}
    assert ours["top"] == 1, "the harness is asked while the adapter is on"
    assert "Other tasks" in (tmp_path / "run" / "report.html").read_text()

    said: list[str] = []
    assert run(said.append) == first
    assert said == ["top, seed 0: done earlier", "whole, seed 0: done earlier"]

    rows = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()
    assert list(dict.fromkeys(row["arm"] for row in rows)) == ["base", "base-2-shot", "top", "whole"]
    assert [(d["a"], d["b"]) for d in first["differences"]][-1] == ("base", "base-2-shot")
    assert first["verdict"].startswith("Finetuning on top")


@pytest.mark.filterwarnings("ignore")
def test_a_task_added_later_is_asked_of_the_saved_adapter_and_trains_only_where_none_is_left(
    tiny_model: Callable[[str], Path], task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    other = tmp_path / "colours-again.yaml"
    other.write_text(task.read_text().replace("task: colours", "task: colours-again"))
    # Writing the run is the slowest part of so small a one.
    monkeypatch.setattr("curate.validation.validate.write_run", lambda *given: None)
    trained: list[int] = []
    said: list[str] = []
    real = finetune.train
    monkeypatch.setattr(finetune, "train", lambda *given: trained.append(1) or real(*given))

    def run(*tasks: Path, method: str = "lora") -> dict[str, Any]:
        trained.clear(), said.clear()
        found = curate.validate(
            {"top": COLOURED},
            eval=COLOURED,
            model=tiny_model("llama"),
            output=tmp_path / "run",
            seeds=1,
            config=replace(TO_THE_END, method=method, learning_rate=2e-2 if method == "lora" else 1e-3),
            lm_eval=[str(path) for path in tasks],
            progress=lambda line: None if "parts done" in line else said.append(line),
        )
        return found.summary()

    alone = run()
    assert (len(trained), alone["lm_eval"]) == (1, [])
    added = run(task)
    assert (len(trained), said) == (0, ["base: colours of lm-eval", DONE, "top, seed 0: colours of lm-eval"])
    assert added["arms"] == alone["arms"]
    assert [(row["arm"], row["value"]) for row in added["lm_eval"]] == [("base", 0), ("top", 1)]
    assert run() == alone and not trained, "a task that is taken away trains nothing"

    (tmp_path / "run" / "adapters" / "top" / "seed-0" / "adapter_model.safetensors").unlink()
    assert [row["value"] for row in run(task, other)["lm_eval"]] == [0, 0, 1, 1]
    assert len(trained) == 1 and "its adapter is no longer in" in said[1] and said[2] == AGAIN

    run(method="full")
    assert [row["value"] for row in run(other, method="full")["lm_eval"]] == [0, 1]
    assert len(trained) == 1 and said[:2] == [DONE, AGAIN]
    assert not list((tmp_path / "run" / ".parts").glob("*/")), "its checkpoints are dropped again"


def test_shots_come_from_the_whole_training_set_and_from_the_same_relation(films: list[dict[str, Any]]) -> None:
    shots = shots_from(read_inputs({"top": films[:2], "whole": films}, films).arms, 1, DEFAULT)
    assert shots is not None
    asked = curate.read(films).examples()[3]
    assert [shot.question for shot in shots.choose(asked)] == ["What genre is Ikiru?"]
    assert shots_from(read_inputs({"top": films}, films).arms, 0, DEFAULT) is None
