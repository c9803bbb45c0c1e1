"""`--template chat`: questions, answers and solved examples in the model's own chat template, everywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate as package
from curate.errors import CurateError, EstimatorError, ModelError
from curate.estimators.known import KnownEstimator, KnownSettings
from curate.estimators.loss import LossEstimator, LossSettings
from curate.lm.generate import greedy_answers
from curate.lm.loss import line_ends
from curate.lm.model import load_model
from curate.lm.packing import IGNORED, collate, training_items
from curate.prompts import CHOICE_CHAT, TEMPLATES, Template, find_template
from curate.records import Example
from tests.models import CHATML

pytestmark = pytest.mark.usefixtures("blank_figures")

RUN = Callable[..., Any]
Films = list[dict[str, Any]]
ALIEN = Example("1", "Who directed Alien?", ("Ridley Scott",), "Alien", "director")
SHOTS = [Example("2", "Who wrote Emma?", ("Jane Austen",)), Example("3", "Who wrote {{ Dune }}?", ("Herbert",))]
TURNS = (("system", "Be brief."), ("user", "Hello  there"), ("assistant", "Hi"))

CHATS = {
    "one turn after the other": CHATML,
    "a beginning of text, blanks trimmed": (
        "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n\n' + m['content'] | trim + '</s>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}"
    ),
    "a system prompt of its own": (
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}" + CHATML
    ),
    "the system inside the first turn, blanks before answers": (
        "{% if messages[0]['role'] == 'system' %}{% set first = '<<' + messages[0]['content'] + '>>\n\n' %}"
        "{% set messages = messages[1:] %}{% else %}{% set first = '' %}{% endif %}{% for m in messages %}"
        "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + (first if loop.first else '') + m['content'] }} [/INST]"
        "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "thoughts before the last answer only": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
        "{% if loop.last and m['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "signs of Jinja in the text": (
        "{% for m in messages %}{{ '{{' + m['role'] + '}} {% ' + m['content'] + '</s>' }}{% endfor %}"
    ),
}


@pytest.fixture
def chat_model(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("chat")


@pytest.fixture
def tokenizer(chat_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(chat_model)


def as_messages(template: Template, shots: Sequence[Example], example: Example) -> list[dict[str, str]]:
    turns = [("system", template.system)] if template.system else []
    for solved in (*shots, example):
        turns += [("user", solved.question), ("assistant", solved.answers[0])]
    return [{"role": role, "content": content} for role, content in turns]


@pytest.mark.parametrize("system", ["", "Answer {{ briefly }}."])
@pytest.mark.parametrize("name", CHATS)
def test_the_text_is_what_the_chat_template_makes_of_the_messages(tokenizer: Any, name: str, system: str) -> None:
    tokenizer.chat_template = CHATS[name]
    template = find_template("chat", system).fitted(tokenizer, "model")
    for count in range(3):
        solved = "".join(template.solve(shot, shot.answers[0]) for shot in SHOTS[:count])
        text = template.head(ALIEN) + solved + template.ask(ALIEN) + template.render_completion("Ridley Scott")
        whole = tokenizer.apply_chat_template(as_messages(template, SHOTS[:count], ALIEN), tokenize=False)
        assert whole.startswith(text)
        assert whole[len(text) :].strip() in ("<|im_end|>", "</s>"), "nothing but the end of the turn is left out"


def test_with_choices_the_user_shows_them_and_the_assistant_says_the_letter(tokenizer: Any) -> None:
    colour = Example("1", "Which is a colour?", ("red",), choices=("dog", "red"))
    template = CHOICE_CHAT.fitted(tokenizer, "model")
    assert template.zero_shot(colour).endswith(
        "<|im_start|>user\nWhich is a colour?\nA. dog\nB. red\nAnswer:<|im_end|>\n<|im_start|>assistant\n"
    )


REFUSED = {
    "it changes, moves, repeats or leaves out what the user says": (
        "{% for m in messages %}{{ m.content | lower }}{% endfor %}"
    ),
    "leaves out what the assistant says": "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
    "it fails: 'nothing' is undefined": "{{ nothing.at.all }}",
    "it fails: Only one": "{% if messages | length > 2 %}{{ raise_exception('Only one.') }}{% endif %}" + CHATML,
    "puts earlier turns in other ways": "{{ messages | length }}" + CHATML,
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_chat_template_that_changes_what_is_said_is_one_message(
    curate: RUN, films: Films, chat_model: Path, tmp_path: Path, why: str
) -> None:
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    shutil.copytree(chat_model, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(REFUSED[why])
    result = curate(
        *["score", "films.jsonl", "--by", "loss", "--model", "model", "--template", "chat", "-o", "scored.parquet"]
    )
    assert result.exit_code == 1
    told = " ".join(result.stderr.split())
    assert told.count("The chat template of 'model' cannot be used") == 1 and why in told
    assert not (tmp_path / "scored.parquet").exists()


def test_a_model_without_chat_template_and_a_system_without_chat_are_told(
    tiny_model: Callable[[str], Path], chat_model: Path, films: Films, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="has no chat template"):
        package.score(films, "loss", model=tiny_model("llama"), template="chat")
    with pytest.raises(EstimatorError, match="system is for the chat template, and questions are asked with qa"):
        package.score(films, "loss", model=chat_model, system="Be brief.")
    shutil.copytree(chat_model, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('No system here') }}{% endif %}" + CHATML
    )
    with pytest.raises(ModelError, match="it fails: No system here"):
        package.score(films, "loss", model=tmp_path / "model", template="chat", system="Be brief.")
    assert package.score(films, "loss", model=tmp_path / "model", template="chat")[0]["loss_status"] == "ok"


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("shots", [0, 2])
def test_the_loss_is_that_of_the_assistants_content_row_by_row(
    films: Films, chat_model: Path, name: str, shots: int
) -> None:
    """Beside a computation by hand: no packing, no shared beginnings, tokens as `apply_chat_template` gives them."""
    import torch

    loaded = load_model(chat_model, device="cpu")
    loaded.tokenizer.chat_template = CHATS[name]
    settings = LossSettings(model=chat_model, template="chat", system="Be brief.", shots=shots)
    estimator = LossEstimator(settings, loaded)
    examples = package.read(films).examples()
    estimator.draw(lambda: examples)
    examples[0] = replace(examples[0], turns=TURNS[1:])
    for example, score in zip(examples, estimator.score(examples), strict=True):
        earlier = [Example("", TURNS[1][1], (TURNS[2][1],))] if example.turns else []
        said = as_messages(estimator.template, [*estimator.drawn()[0].choose(example), *earlier], example)
        text = loaded.tokenizer.apply_chat_template(said, tokenize=False)
        end = text.rindex(example.answers[0]) + len(example.answers[0])
        start = end - len(estimator.template.render_completion(example.answers[0]))
        found = loaded.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        assert found["input_ids"] == loaded.tokenizer.apply_chat_template(said, return_dict=False)
        answer = [n for n, (_, stop) in enumerate(found["offset_mapping"]) if start < stop <= end]
        with torch.inference_mode():
            logits = loaded.model(input_ids=torch.tensor([found["input_ids"]])).logits[0]
        log_p = torch.log_softmax(logits.float(), dim=-1)
        nats = -sum(float(log_p[n - 1, found["input_ids"][n]]) for n in answer)
        assert score.evidence["tokens"] == len(answer)
        assert score.evidence["nats"] == pytest.approx(nats, rel=1e-4)


def test_an_answer_ends_with_its_line_its_text_or_its_turn(chat_model: Path) -> None:
    loaded = load_model(chat_model, device="cpu")
    template = find_template("chat").fitted(loaded.tokenizer, loaded.name)
    turn, text = (loaded.tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "</s>"))
    (line,) = loaded.tokenizer("\n", add_special_tokens=False)["input_ids"]
    (word,) = loaded.tokenizer("e", add_special_tokens=False)["input_ids"]
    ends = line_ends(loaded.asked_in(template))
    assert [bool(ends[token]) for token in (turn, text, line, word)] == [True, True, True, False]
    assert not line_ends(loaded)[turn]


def test_known_reads_from_the_answer_what_the_model_would_say(chat_model: Path) -> None:
    """The model is taught what to say after some of the prompts, the end of the turn included."""
    import torch

    facts = [Example(str(n), f"Who is the friend of S{n}?", (f"F{n}",), f"S{n}", "friend") for n in range(6)]
    loaded = load_model(chat_model, device="cpu")
    settings = KnownSettings(model=chat_model, template="chat", known_sets=2, known_shots=2, known_samples=4)
    estimator = KnownEstimator(settings, loaded)
    estimator.draw(lambda: facts)
    taught = [(estimator.prompts(fact)[0], fact.answers[0]) for fact in facts[:3]]
    assert all(prompt.endswith("<|im_end|>\n<|im_start|>assistant\n") for prompt, _ in taught)
    items = [
        {"input_ids": ids, "labels": [IGNORED] * (len(ids) - 3) + ids[-3:]}
        for ids in (loaded.tokenizer(f"{p}{a}<|im_end|>", add_special_tokens=False)["input_ids"] for p, a in taught)
    ]
    batch = collate(items, pad=0)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=5e-3)
    for _ in range(60):
        loaded.model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    loaded.model.eval()
    assert greedy_answers(estimator.model, [prompt for prompt, _ in taught]) == ["F0", "F1", "F2"]
    exact = [score.evidence["greedy"] for score in estimator.score(facts)]
    assert min(exact[:3]) >= 0.5
    sampled = KnownEstimator(settings.changed(known_mode="sampled"), loaded)
    sampled.sets = estimator.sets
    assert [score.evidence["greedy"] for score in sampled.score(facts)] == exact


def test_the_end_of_the_turn_is_learned_and_nothing_of_the_prompt(chat_model: Path) -> None:
    loaded = load_model(chat_model, device="cpu")
    template = find_template("chat").fitted(loaded.tokenizer, loaded.name)
    (item,) = training_items(loaded.asked_in(template), [ALIEN], template)
    learned = [token for token, label in zip(item["input_ids"], item["labels"], strict=True) if label != IGNORED]
    assert loaded.tokenizer.decode(learned) == "Ridley Scott<|im_end|>"
    whole = loaded.tokenizer.apply_chat_template(as_messages(template, (), ALIEN), tokenize=False)
    assert loaded.tokenizer.decode(item["input_ids"]) == whole.removesuffix("\n")


def test_a_chat_goes_through_score_select_and_validate(
    curate: RUN, films: Films, chat_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    asked = f"--model {chat_model} --template chat --system Brief! --device cpu"
    assert (
        curate(*f"score films.jsonl --by loss --by known --known-sets 1 {asked} -o scored.parquet".split()).exit_code
        == 0
    )
    manifest = json.loads((tmp_path / "scored.parquet.manifest.json").read_text())
    assert {estimator["template"]["system"] for estimator in manifest["estimators"]} == {"Brief!"}
    result = curate(
        *[
            "select",
            "scored.parquet",
            "--by",
            "loss",
            "--top",
            "4",
            "--format",
            "prompt-completion",
            "--to",
            "jsonl",
            "-o",
            "splits",
        ]
    )
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in (tmp_path / "splits" / "top.jsonl").read_text().splitlines()]
    system, answer = {"role": "system", "content": "Brief!"}, {"role": "assistant", "content": "Michael Mann"}
    heat = {"prompt": [system, {"role": "user", "content": "Who directed Heat?"}], "completion": [answer]}
    assert heat in rows
    run = f"validate splits --eval films.jsonl --model {chat_model} --device cpu --seeds 1 --max-steps 2 -o run"
    result = curate(*run.split())
    assert result.exit_code == 0, result.stderr
    used = json.loads((tmp_path / "run" / "manifest.json").read_text())["template"]
    assert "<|im_start|>" in used["header"] and used["system"] == "Brief!", "as the scores were made"
    again = curate(*run.split())
    assert "already made" in again.stderr
    other = curate(*f"{run} --template qa".split())
    assert "There are two templates: 'qa'" in other.stderr


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["messages", "prompt-completion"])
def test_trl_trains_on_the_tokens_that_validate_trains_on(
    films: Films, chat_model: Path, tokenizer: Any, tmp_path: Path, format: str
) -> None:
    trl = pytest.importorskip("trl")
    from datasets import load_dataset

    asked = {"template": "chat", "system": "Be brief."}
    package.select(films, top=4, by="column:views", output=tmp_path / "top.jsonl", format=format, **asked)
    rows = load_dataset("json", data_files=str(tmp_path / "top.jsonl"), cache_dir=str(tmp_path / "cache"))["train"]
    settings = trl.SFTConfig(str(tmp_path / "model"), report_to=[], save_strategy="no", use_cpu=True)
    trainer = trl.SFTTrainer(str(chat_model), args=settings, train_dataset=rows, processing_class=tokenizer)
    loaded = load_model(chat_model, device="cpu")
    template = find_template(name="chat", system="Be brief.").fitted(tokenizer, "model")
    ours = training_items(loaded.asked_in(template), package.read(tmp_path / "top.jsonl").examples(), template)
    (line,) = tokenizer("\n", add_special_tokens=False)["input_ids"]
    for item, row in zip(ours, trainer.train_dataset, strict=True):
        assert row["input_ids"] == [*item["input_ids"], line], "TRL also trains the line break after the turn"
        if format == "prompt-completion":
            learned = [int(label != IGNORED) for label in item["labels"]]
            assert [int(label != IGNORED) for label in row["labels"]] == [*learned, 1]


SHORT = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "So."}]
LONG = [{"role": role, "content": text} for role, text in TURNS]
CHAT_ROWS = [*([*LONG, {"role": "user", "content": f"Who? {n}"}, SHORT[1]] for n in range(3)), SHORT]


def test_earlier_turns_and_system_prompts_are_kept_counted_and_said_where_they_cannot_be_used(
    curate: RUN, chat_model: Path, tmp_path: Path
) -> None:
    rows = [{"messages": messages, "views": float(n)} for n, messages in enumerate(CHAT_ROWS)]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first = package.read(tmp_path / "chats.jsonl").examples()[0]
    assert (first.question, first.turns) == ("Who? 0", TURNS)
    assert "3 chats with a system prompt, 3 with earlier turns" in curate("show", "chats.jsonl").stdout
    score = f"score chats.jsonl --by loss --shots 1 --model {chat_model} --device cpu"
    left_out = "3 chats have a system prompt and 3 chats have earlier turns, which qa leaves out (loss)"
    assert left_out in " ".join(curate(*f"{score} -o qa.parquet".split()).stderr.split())
    result = curate(*f"{score} --template chat -o chat.parquet".split())
    assert "leaves out" not in result.stderr
    manifest = json.loads((tmp_path / "chat.parquet.manifest.json").read_text())
    asked = Template(**manifest["estimators"][0]["template"]).zero_shot(first)
    assert asked.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello  there<|im_end|>\n")
    assert "<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\nWho? 0<|im_end|>" in asked
    for format, note in (("messages", ""), ("alpaca", "3 of whole written without their earlier turns")):
        written = curate(*f"select qa.parquet --whole --format {format} -o {format}.jsonl".split())
        assert note in " ".join(written.stderr.split())
    assert [json.loads(line) for line in (tmp_path / "messages.jsonl").read_text().splitlines()] == [
        {"messages": messages} for messages in CHAT_ROWS
    ]


def test_a_chat_whose_parts_take_no_turns_has_a_status(chat_model: Path) -> None:
    rows = [{"messages": messages} for messages in ([SHORT[0], *SHORT], *CHAT_ROWS)]
    scored = package.score(rows, "loss", model=chat_model, template="chat", shots=0, device="cpu")
    assert [row["loss_status"] for row in scored] == ["odd_turns", "ok", "ok", "ok", "ok"]


def test_a_model_with_a_chat_template_that_is_asked_otherwise_is_said(
    curate: RUN, films: Films, chat_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "films.jsonl").write_text("\n".join(json.dumps(row) for row in films))
    score = f"score films.jsonl --by loss --shots 1 --model {chat_model} --device cpu"
    told = " ".join(curate(*f"{score} -o qa.parquet".split()).stderr.split())
    assert "has a chat template, and is asked with qa; --template chat asks in its own." in told
    assert "has a chat template" not in curate(*f"{score} --template chat -o chat.parquet".split()).stderr


def test_solved_examples_longer_than_the_context_are_told(
    curate: RUN, films: Films, chat_model: Path, tmp_path: Path
) -> None:
    long = [{**film, "question": f"{film['question']} {'really ' * 40}"} for film in films]
    mixed = [*long[:3], *films[3:], {**films[3], "question": "What genre is Dune?", "subject": "Dune"}]
    for name, rows in (("long", long), ("mixed", mixed)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    score = f"--by loss --model {chat_model} --device cpu --shots 2 --template chat"
    config = json.loads((chat_model / "config.json").read_text())
    shutil.copytree(chat_model, tmp_path / "small")
    (tmp_path / "small" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 256}))
    result = curate(*f"score long.jsonl {score} --model small -o long.parquet".split())
    assert result.exit_code == 1
    told = " ".join(result.stderr.split())
    assert "The solved examples of every relation are longer than the 256 tokens that small reads." in told
    assert "Try: fewer of them with --shots 0" in told, "one alone is too long as well"
    known = "score long.jsonl --by known --known-shots 2 --known-sets 2 --device cpu -o known.parquet --model small"
    told = " ".join(curate(*known.split()).stderr.split())
    assert "longer than the 256 tokens" in told and "Try: a model with a longer context" in told
    result = curate(*f"score mixed.jsonl {score} --model small -o mixed.parquet".split())
    assert result.exit_code == 0, result.stderr
    assert "are longer than the 256 tokens that small reads: the first of them" in " ".join(result.stderr.split())
    assert max(pq.read_table(tmp_path / "mixed.parquet")["loss_truncated"].to_pylist()) > 0


def test_one_template_at_a_time_is_written(films: Films, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="change nothing in format='original'"):
        package.select(films, top=2, by="column:views", output=tmp_path / "a.parquet", template="chat")
    asked = {"top": 2, "by": "column:views", "output": tmp_path / "a.csv", "format": "prompt-completion"}
    with pytest.raises(CurateError, match="CSV"):
        package.select(films, **asked, template="chat")
    package.select(films, **{**asked, "output": tmp_path / "a.jsonl"})
    with pytest.raises(CurateError, match="another split"):
        package.select(films, **{**asked, "output": tmp_path / "a.jsonl"}, template="chat")
    assert package.read(tmp_path / "a.jsonl").template() == TEMPLATES["plain"]
