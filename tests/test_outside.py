"""What people see stays as it is: commands, what they print and write, exit codes, and the names of the package.

The commands are those of the README and the pages of docs/. `outside.json` holds what each of them did: its exit code,
its output, and every file it wrote, as a hash where the bytes are the same on every machine. Whoever changes any of it
on purpose writes the file anew, and reads the difference:

    python tests/test_outside.py [STORY …]

Nothing of the inside is imported here, so that it may be rebuilt freely. What `--help` says stands in docs/cli.md,
which has a test of its own.
"""

from __future__ import annotations

import bz2
import hashlib
import inspect
import json
import math
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).with_name("outside.json")

LIBRARIES = ("datasets", "duckdb", "numpy", "pandas", "pyarrow", "rich", "torch", "transformers", "typer")
"""Their versions stand in manifests, or decide how bytes and messages look."""

CLOSE = {"bytes": 1e-9, "numbers": 2e-4}
"""How far fractions may be apart: another processor moves the last digits, and of a model's float32 some more."""


@dataclass
class Command:
    """One command line, and what is kept of it.

    `bytes`: what is printed, and a hash of every file. `numbers`: values instead of hashes, fractions within CLOSE.
    `shape`: what a training made differs from processor to processor, so only the names of files, the keys of JSON,
    and the columns and rows of Parquet. `names`: the names of files, and the keys of what is printed.
    """

    line: str
    keeps: str = "bytes"


def commands(*lines: str, keeps: str = "bytes") -> list[Command]:
    return [Command(line, keeps) for line in lines]


SCORED = "score facts.jsonl --by column:views -o scored.parquet -q"
UNPACKED = "demo --unpack -o ."

# Each story is played in an empty folder with the files of `write_inputs`, by one process.
STORIES: dict[str, list[Command]] = {
    "score": commands(
        "score facts.jsonl --by column:views -o scored.parquet",
        "score facts.jsonl --by column:views -o scored.parquet --json",
        "score facts.jsonl --by column:views -o planned.parquet --dry-run --json",
        "score - --by column:views -o piped.parquet --json",
        "score popQA.tsv --by column:s_pop -o popqa.parquet --json",
        "score scored.parquet --by column:likes -o twice.parquet",
        "score mine.csv --by column:visits --question-column q --answer-column a --subject-column person"
        " --id-column key -o mine.parquet --json",
        "score facts.jsonl --by column:views -o strict.parquet --max-missing 0",
        "show facts.jsonl",
        "show popQA.tsv --json",
        "show scored.parquet",
        "show twice.parquet --json",
        "show --agreement twice.parquet",
        "show --agreement twice.parquet --json",
    ),
    "shards": commands(
        UNPACKED,
        "score world/train.parquet --by column:views --shard 1/3 -o shards/",
        "score world/train.parquet --by column:views --shard 2/3 -o shards/",
        "score world/train.parquet --by column:views --shard 3/3 -o shards/ --json",
        "merge shards/ -o merged.parquet --json",
        "merge shards/shard-1-of-3.parquet shards/shard-3-of-3.parquet -o partly.parquet",
        "score world/train.parquet --by column:views -o unsharded.parquet -q",
    ),
    "select": commands(
        SCORED,
        "select scored.parquet --top 0.5 --bottom 0.5 --random 0.5 --whole -o splits/",
        "select scored.parquet --top 0.5 --bottom 0.5 --random 0.5 --whole -o again/ --json",
        "select scored.parquet --top 0.3 --stratify-by relation -o stratified.parquet",
        "select scored.parquet --band 30:70 --holdout 0.2 -o band/ --json",
        "select scored.parquet --top 30% --holdout 4 --holdout-by relation --seed 7 -o seeded/",
        "select facts.jsonl --by column:views --where relation=capital,sport --controlled-by relation -o controlled/",
        "select scored.parquet --by column:views --by column:likes --top 5 -o ranks.parquet --json",
        "select scored.parquet --min-score 30 --max-score 70 -o between.csv",
        "select scored.parquet --bottom 4 --missing lowest --order obscure-first -o obscure.jsonl",
        "select scored.parquet --random 4 --order shuffled --seed 3 -o shuffled.parquet",
        "select scored.parquet --top 0.5 --format prompt-completion -o train.jsonl",
        "select scored.parquet --top 0.5 --bottom 0.5 --format messages --to jsonl -o messages/",
        "select scored.parquet --top 0.5 --format alpaca -o alpaca.csv",
        "select scored.parquet --top 0.5 -o planned.parquet --dry-run --json",
        "show splits/top.parquet --json",
        "show splits/",
        "show --compare splits/top.parquet splits/bottom.parquet",
        "show --compare splits/top.parquet splits/random.parquet --json",
    ),
    "views": [
        *commands(
            "views build pageviews-202110-user.bz2 pageviews-202111-user.bz2 -o views.parquet --json",
            "views build pageviews-202110-user.bz2 --access desktop --titles titles.txt -o desktop.parquet",
        ),
        *commands(  # logarithms differ in the last digits, and the server has another address each time
            "score people.csv --by pageviews --views-from views.parquet -o table.parquet --json",
            "show table.parquet",
            "score people.csv --by pageviews --window 2021-10 --contact a@b.org @server -o asked.parquet --json",
            "score people.csv --by pageviews --window 2021-10 --contact a@b.org @server -o cached.parquet --offline",
            "show asked.parquet --json",
            "score people.csv --by sitelinks @server -o linked.parquet --json",
            keeps="numbers",
        ),
    ],
    "mistakes": commands(
        "score nothing.csv --by column:views -o x.parquet",
        "score mine.csv --by column:visits -o x.parquet",
        "score broken.jsonl --by column:views -o x.parquet",
        "score facts.jsonl --by column:view -o x.parquet",
        "score facts.jsonl --by column:question -o x.parquet",
        "score facts.jsonl --by los -o x.parquet",
        "score facts.jsonl --by loss -o x.parquet",
        "score facts.jsonl --by pageviews -o x.parquet",
        "score facts.jsonl --by sitelinks -o x.parquet",
        "score facts.jsonl --by column:views -o x.txt",
        "score facts.jsonl --by column:views -o x.parquet --shard 3/2",
        "score facts.jsonl --by column:views",
        "score facts.jsonl --by column:views -o x.parquet --preset popq",
        SCORED,
        "select facts.jsonl --top 0.5 -o x.parquet",
        "select scored.parquet --top 1.5 -o x.parquet",
        "select scored.parquet --top 99 -o x.parquet",
        "select scored.parquet --top half -o x.parquet",
        "select scored.parquet --band 70:30 -o x.parquet",
        "select scored.parquet --top 0.5 --bottom 0.5 -o x.parquet",
        "select scored.parquet --top 0.5 --stratify-by relatoin -o x.parquet",
        "select scored.parquet --top 0.5 --missing error -o x.parquet",
        "select scored.parquet --top 0.5 --format chat -o x.jsonl",
        "select scored.parquet --seed one --top 0.5 -o x.parquet",
        "select scored.parquet --tp 0.5 -o x.parquet",
        "show nothing.parquet",
        "show --compare scored.parquet",
        "show --agreement facts.jsonl",
        "run popq -o x/",
        "run mistaken.yaml -o x/",
        "run world -o x/ --set selection.topp=0.3",
        "views build nothing.bz2 -o x.parquet",
        "views build pageviews-202110-user.bz2 -o x.parquet --access phone",
        "simulate fact -o x/",
        "simulate facts -o x/ --seeds 0",
        "demo --by guess -o x/",
        "validate splits/ --model world/model -o x/",
        "scor facts.jsonl",
        "--version",
        "--help",
        "views --help",
    ),
    "model": [
        *commands(
            UNPACKED,
            "select world/train.parquet --by column:views --top 12 --bottom 12 --holdout 12 -o s/ -q",
            "select world/train.parquet --by column:views --budget-tokens 300 --tokenizer world/model"
            " --order popular-first -o budget.parquet --json",
        ),
        *commands(
            "score s/top.parquet --by loss --model world/model -o loss.parquet --json",
            "score s/top.parquet --by loss --model world/model --reduction sum --answers best --template plain"
            " -o sums.parquet",
            "score s/top.parquet --by loss --model world/model --shots 1 --shots-from s/bottom.parquet"
            " -o shots.parquet -q",
            "score s/top.parquet --by loss --model world/model -o planned.parquet --dry-run --json",
            "show loss.parquet",
            keeps="numbers",
        ),
        *commands(
            "validate s/ --eval s/holdout.parquet --model world/model --by views --epochs 1 --batch-size 4 --seeds 1"
            " -o run/ --json",
            "show run/ --json",
            keeps="shape",
        ),
        *commands(
            "run world --limit 12 --seeds 1 --set finetuning.max_steps=2 --set selection.random=null"
            " --set selection.whole=false -o recipe/ --json",
            "show recipe/ --json",
            keeps="names",
        ),
        *commands(
            "validate s/ --eval s/holdout.parquet --model nowhere -o x/",
            "validate s/top.parquet --eval broken.jsonl --model world/model -o x/",
            "score facts.jsonl --by loss --model world/model --reduction mean -o x.parquet",
        ),
    ],
    "simulate": commands(
        "simulate facts -o facts/ --seeds 2 --processes 1 --subjects 30 --relations 3 --answers 4 --width 16 --heads 2"
        " --steps 10 --batch-size 64 --finetuning-subjects 8 --validation-subjects 8 --finetuning-steps 10 --json",
        "show facts/ --json",
        keeps="shape",
    )
    + commands("simulate zipf -o x/ --dry-run --json --processes 1"),
    "recipes": commands(
        "run --list",
        "run popqa --show",
        "run mine.yaml -o x/ --dry-run --json",
        "run popqa-controlled --data popQA.tsv --model nowhere -o x/",
    ),
}


def write_inputs(folder: Path) -> None:
    """Facts with ties, missing views and several answers, other tables, dumps, recipes, and files with mistakes."""
    facts = []
    for number in range(24):
        relation = ("capital", "sport", "occupation")[number % 3]
        answers = {
            "capital": ["Zürich", "Paris"],
            "sport": ["association football", "chess"],
            "occupation": ["politician", "Politiker"],
        }[relation]
        fact: dict[str, Any] = {
            "question": f"What is the {relation} of {'Zoë' if number % 5 else 'Ann'} {number // 2}?",
            "answers": answers if number % 4 else [f"answer {number}"],
            "subject": f"Person {number // 2}",
            "relation": relation,
            "views": None if number % 11 == 10 else number * 7 % 8 * 10,
            "likes": number * 5 % 24 / 4,
        }
        facts.append(fact)
    facts[7]["answers"] = []
    texts = {
        "facts.jsonl": "".join(json.dumps(fact, ensure_ascii=False) + "\n" for fact in facts),
        "mine.csv": "key,q,a,person,visits\n"
        "k1,Where was Marie Curie born?,Warsaw,Marie Curie,310000\n"
        "k2,Where was Max Born born?,Breslau,Max Born,21000\n"
        "k3,Where was Emmy Noether born?,Erlangen,Emmy Noether,\n",
        "popQA.tsv": "id\tsubj\tprop\tobj\ts_pop\tquestion\tpossible_answers\n"
        '1\tAlien\tdirector\tRidley Scott\t900\tWho directed Alien?\t["Ridley Scott", "R. Scott"]\n'
        '2\tHeat\tdirector\tMichael Mann\t500\tWho directed Heat?\t["Michael Mann"]\n'
        '3\tRan\tgenre\tdrama\t40\tWhat genre is Ran?\t["drama"]\n',
        "people.csv": "question,answer,subject\n"
        "What genre does AC/DC play?,rock,AC/DC\n"
        "Who is Ridley Scott?,director,R. Scott\n"
        "What is George Rankin's occupation?,politician,George Rankin\n"
        "What is Mercury?,planet,Mercury\n"
        "What is unread?,a page,Unread\n"
        "Who is nobody?,nobody,Nobody\n",
        "titles.txt": "AC/DC\nNobody\n",
        "broken.jsonl": '{"question": "Who?", "answers": ["I"], "views": 1}\n{"question": \n',
        "mine.yaml": "model:\n  name: ./my-model\ndataset:\n  train: facts.jsonl\n  test: facts.jsonl\n"
        "estimators:\n  by: [column:views]\nselection:\n  by: views\n  top: 30%\n  random: 30%\n"
        "validation:\n  by: views\n",
        "mistaken.yaml": "model:\n  name: ./my-model\ndataset:\n  train: facts.jsonl\nselection:\n  topp: 30%\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    dump = (
        "de.wikipedia Zürich 9 desktop 50 A50\nen.wikipedia AC/DC 5 desktop 900 A400B500\n"
        "en.wikipedia AC/DC 5 mobile-web 1100 A1100\nen.wikipedia George_Rankin 7 desktop 142 A142\nnonsense\n"
    )
    for month in ("202110", "202111"):
        (folder / f"pageviews-{month}-user.bz2").write_bytes(bz2.compress(dump.encode()))


# Runs command after command as `python -m curate …` would, in one process, since torch takes seconds to import.
# Every command has standard input, output and error of its own, as a shell would give it.
PLAYER = """
import json, os, runpy, sys

orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")

def play(arguments, given, printed, remarks):
    for place, (path, how) in enumerate(((given, os.O_RDONLY), (printed, WRITE), (remarks, WRITE))):
        opened = os.open(path, how)
        os.dup2(opened, place)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)
    sys.stdout, sys.stderr = (open(place, "w", encoding="utf-8", closefd=False) for place in (1, 2))
    sys.argv = ["curate", *arguments]
    try:
        runpy.run_module("curate", run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as left:
        return left.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()

WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
for order in orders:
    print(play(*json.loads(order)), file=answers, flush=True)
"""


def play(story: str, folder: Path) -> dict[str, Any]:
    """What each command of a story did, by its line; `folder` is empty."""
    import curate

    work, aside = folder / "work", folder / "aside"
    work.mkdir()
    aside.mkdir()
    write_inputs(work)
    wanted = {
        "PYTHONPATH": str(Path(curate.__file__).parents[1]),
        "PYTHONWARNINGS": "ignore",
        "CURATE_CACHE": str(aside / "cache"),
        "COLUMNS": "120",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        server = stack.enter_context(wikimedia()) if story == "views" else None
        player = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", PLAYER],
                cwd=work,
                env=os.environ | wanted,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert player.stdin is not None and player.stdout is not None
        for command in STORIES[story]:
            before = hashes(work)
            words = shlex.split(command.line)
            if "@server" in words:
                assert server is not None
                place = words.index("@server")
                words[place : place + 1] = server.options
            streams = [str(work / "facts.jsonl"), str(aside / "stdout"), str(aside / "stderr")]
            print(json.dumps([words, *streams]), file=player.stdin, flush=True)
            code = player.stdout.readline()
            assert code, f"curate {command.line}: the process ended"
            files = {name: found for name, found in hashes(work).items() if before.get(name) != found}
            streams = [(aside / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
            found[command.line] = kept(command, int(code), *streams, files, work)
    return found


def wikimedia() -> Any:
    """A small wiki on localhost, with an article of every kind."""
    from tests.wikimedia_server import Article, WikimediaServer, World

    articles = {
        "George Rankin": Article({"2021-09": 90, "2021-10": 142}),
        "Ridley Scott": Article({"2021-10": 100_000}),
        "AC/DC": Article({"2021-10": 300_000}),
        "Mercury": Article({"2021-10": 5000}, disambiguation=True),
        "Unread": Article(),
    }
    items = {"Q42": "Ridley Scott", "Q43": "AC/DC"}
    return WikimediaServer(World(articles, {"R. Scott": "Ridley Scott"}, items, wikis={"Q42": 60, "Q43": 99}))


def hashes(folder: Path) -> dict[str, str]:
    """The files in a folder; of one whose name begins with a dot, which is for curate alone, only the name."""
    files: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = next((place for place, part in enumerate(parts) if part.startswith(".")), None)
        if hidden is not None:
            files["/".join(parts[: hidden + 1])] = ""
        elif path.is_file():
            content = path.read_bytes().replace(str(folder).encode(), b"FOLDER")  # a recipe's paths are absolute
            files["/".join(parts)] = hashlib.sha256(content).hexdigest()
    return files


def kept(command: Command, code: int, stdout: str, stderr: str, files: dict[str, str], folder: Path) -> dict[str, Any]:
    """What one command did, as it stands in the golden file; what is empty is left away."""
    done: dict[str, Any] = {"exit": code}
    if "--json" in command.line.split() and stdout:
        done["json"] = kept_json(stdout, command.keeps, folder)
    else:
        done["stdout"] = plain_lines(stdout, folder)
    if command.keeps in CLOSE:
        done["stderr"] = plain_lines(stderr, folder)
    done["files"] = {name: kept_file(folder / name, sha256, command.keeps, folder) for name, sha256 in files.items()}
    return {key: value for key, value in done.items() if value not in ([], {})}


def kept_file(path: Path, sha256: str, keeps: str, folder: Path) -> Any:
    """What is kept of one file; of pictures, pages and adapters, which other libraries make, only that it is there."""
    if not sha256 or keeps == "names" or path.suffix in (".png", ".html") or "adapters" in path.parts:
        return None
    if keeps == "bytes":
        return sha256[:16]
    if path.suffix == ".json":
        return kept_json(path.read_text(encoding="utf-8"), keeps, folder)
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        columns = {name: kept_column(table[name], keeps) for name in table.column_names}
        return {"rows": table.num_rows, "columns": columns}
    return None


def kept_column(column: Any, keeps: str) -> Any:
    """Its type, and of fractions the values, of all else a hash of them."""
    kind = str(column.type)
    if keeps == "shape":
        return kind
    values = column.to_pylist()
    return (
        [kind, *values] if kind == "double" else f"{kind} {hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]}"
    )


def kept_json(text: str, keeps: str, folder: Path) -> Any:
    content = without_clock(json.loads(steady(text, folder)))
    return content if keeps in CLOSE else shape(content)


def shape(value: Any) -> Any:
    """The keys of JSON, and the kinds of its values, a number or null alike; of a list its first entry."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__ if isinstance(value, str | bool) else "number"


def without_clock(value: Any) -> Any:
    """Without what another run takes another time for, or asks another server: a `request` is a hash of its address."""
    if isinstance(value, dict):
        varying = ("seconds", "rows_per_second", "request")
        return {key: without_clock(inner) for key, inner in value.items() if key not in varying}
    return [without_clock(inner) for inner in value] if isinstance(value, list) else value


def plain_lines(text: str, folder: Path) -> list[str]:
    """Without empty lines, the length of rules, how long it took, and the progress that slow machines tell of."""
    steadied = re.sub(r"in [\d.,]+ s \([\d.,]+ (\w+)/s\)", r"in … s (… \1/s)", steady(text, folder))
    lines = (re.sub("─+", "─", line).rstrip() for line in steadied.splitlines())
    return [line for line in lines if line and not re.match(r"\S+: [\d,]+ of [\d,]+ \w+,", line)]


def steady(text: str, folder: Path) -> str:
    """Without the folder and the server of this one run."""
    return re.sub(r"http://127\.0\.0\.1:\d+", "SERVER", text.replace(str(folder), "FOLDER"))


MADE_BY_PEOPLE = ("CurateError", "Example", "FinetuneConfig", "Score")
"""Classes whose objects people make themselves; those of the other classes come out of a call."""


def surface() -> dict[str, Any]:
    """Every public name, and how it is called; of a class the members that docs/python.md shows."""
    import curate
    import curate.errors

    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"::: curate\.(\w+)\n    options:\n      members: \[(.*)\]", page))
    errors = [name for name, thing in vars(curate.errors).items() if inspect.isclass(thing) and name.endswith("Error")]
    return {"__all__": sorted(curate.__all__), "errors": sorted(errors)} | {
        name: signatures(getattr(curate, name), shown.get(name, ""))
        for name in curate.__all__
        if not name.startswith("__")
    }


def signatures(thing: Any, shown: str) -> Any:
    """Of a class the members `shown`, by default all public ones that are its own."""
    if not inspect.isclass(thing):
        return signature(thing)
    names = shown.split(", ") if shown else {**vars(thing), **inspect.get_annotations(thing)}
    members = {name: getattr(thing, name, None) for name in sorted(names) if not name.startswith("_")}
    return ({"()": signature(thing)} if thing.__name__ in MADE_BY_PEOPLE else {}) | {
        name: signature(member) if callable(member) else "attribute" for name, member in members.items()
    }


def signature(function: Any) -> str:
    """As text, with the names of types but neither the modules they live in nor addresses."""
    text = re.sub(r"\bcurate\.(?:\w+\.)+", "", str(inspect.signature(function)))
    return re.sub(r"<function (\w+) at 0x\w+>", r"\1", text)


def differences(was: Any, now: Any, close: float, place: str) -> Iterator[str]:
    """Where two things differ; fractions may by `close`."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            yield from differences(was.get(key, "not there"), now.get(key, "not there"), close, f"{place} / {key}")
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for number, (before, after) in enumerate(zip(was, now, strict=True)):
            yield from differences(before, after, close, f"{place} [{number}]")
    elif isinstance(was, float) and isinstance(now, float):
        if not math.isclose(was, now, rel_tol=close, abs_tol=close):
            yield f"{place}: was {was}, is {now}"
    elif was != now:
        yield f"{place}:\n  was {was}\n  is  {now}"


def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def check(changed: list[str]) -> None:
    assert not changed, "\n".join(["If this is meant, python tests/test_outside.py writes it anew.", *changed])


@pytest.mark.parametrize("story", STORIES)
def test_commands_do_what_they_did(story: str, tmp_path: Path) -> None:
    made_with = golden()["libraries"]
    if made_with != libraries():
        pytest.skip(f"outside.json holds what other versions write: {made_with}")
    was, now = golden()[story], play(story, tmp_path)
    assert was.keys() == now.keys(), "python tests/test_outside.py has to be run for other commands"
    close = {command.line: CLOSE.get(command.keeps, 0) for command in STORIES[story]}
    check([change for line in now for change in differences(was[line], now[line], close[line], f"curate {line}")])


def test_the_public_names_are_called_as_they_were() -> None:
    check(list(differences(golden()["python"], surface(), 0, "curate")))


def libraries() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


def write_golden(*stories: str) -> None:
    made: dict[str, Any] = {**(golden() if stories else {}), "libraries": libraries(), "python": surface()}
    for story, told in STORIES.items():
        if stories and story not in stories:
            continue
        with tempfile.TemporaryDirectory() as folder:
            played = play(story, Path(folder))
        made[story] = {c.line: rounded(played[c.line], 4 if c.keeps == "numbers" else 12) for c in told}
    GOLDEN.write_text(as_text(made), encoding="utf-8")


def rounded(value: Any, decimals: int) -> Any:
    if isinstance(value, dict):
        return {key: rounded(inner, decimals) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner, decimals) for inner in value]
    return round(value, decimals) if isinstance(value, float) else value


def as_text(made: dict[str, Any]) -> str:
    """A line for each command, so that a change shows which one."""
    compact = {"ensure_ascii": False, "sort_keys": True, "separators": (",", ":")}
    parts = []
    for kind, entries in sorted(made.items()):
        lines = [f"{json.dumps(key)}: {json.dumps(entry, **compact)}" for key, entry in sorted(entries.items())]
        parts.append(f"{json.dumps(kind)}: {{\n" + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not tests/, where a folder is called `datasets` like the library
    write_golden(*sys.argv[1:])
