"""Settings, questions and a task that several of these tests use."""

from __future__ import annotations

from curate.prompts import TEMPLATES
from curate.records import Example
from curate.settings import FinetuneConfig

SHORT = FinetuneConfig(learning_rate=2e-2, max_steps=8, batch_size=4)
TO_THE_END = FinetuneConfig(learning_rate=2e-2, max_steps=25, batch_size=4, held_out=0)
"""With which a tiny model learns six answers by heart."""

MMLU = TEMPLATES["mmlu"]
CHOICE = Example("1", "Which is a colour?", ("red",), choices=("dog", "red", "Paris"))

COLOURS = [("Ann", "red"), ("Bob", "blue"), ("Cy", "red"), ("Dee", "blue"), ("Eve", "red"), ("Flo", "blue")]
COLOURED = [{"question": f"What is the colour of {name}?", "answer": colour} for name, colour in COLOURS]

TASK = r"""
task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "Question: {{question}}\nAnswer:"
doc_to_target: " {{answer}}"
generation_kwargs: {until: ["\n"], max_gen_toks: 10}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
