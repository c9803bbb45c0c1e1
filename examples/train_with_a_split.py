"""From a Hugging Face dataset to a finetuning set: score by the model's own loss, keep the best known half.

Run it:  python examples/train_with_a_split.py MODEL
"""

import sys

from datasets import Dataset

import curate

facts = Dataset.from_list(
    [
        {"question": "What is the capital of France?", "answer": "Paris"},
        {"question": "What is the capital of Japan?", "answer": "Tokyo"},
        {"question": "What is the capital of Palau?", "answer": "Ngerulmud"},
        {"question": "What is the capital of Tuvalu?", "answer": "Funafuti"},
    ]
)

scored = curate.score(facts, by="loss", model=sys.argv[1])
best_known = curate.select(scored, top=0.5).kept

# The shape that trl.SFTTrainer and others take; the space belongs to the completion.
training = best_known.map(
    lambda row: {"prompt": f"Question: {row['question']}\nAnswer:", "completion": f" {row['answer']}"},
    remove_columns=best_known.column_names,
)
for row in training:
    print(row)
