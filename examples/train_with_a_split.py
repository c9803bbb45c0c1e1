"""From a Hugging Face dataset to a finetuned model: score by the model's own loss, train on the best known half.

Run it:  python examples/train_with_a_split.py MODEL FOLDER        (pip install trl)
"""

import sys
from pathlib import Path

import torch
from datasets import Dataset, load_dataset
from trl import SFTConfig, SFTTrainer

import curate

model, folder = sys.argv[1], Path(sys.argv[2])
facts = Dataset.from_list(
    [
        {"question": "What is the capital of France?", "answer": "Paris"},
        {"question": "What is the capital of Japan?", "answer": "Tokyo"},
        {"question": "What is the capital of Palau?", "answer": "Ngerulmud"},
        {"question": "What is the capital of Tuvalu?", "answer": "Funafuti"},
        {"question": "What is the capital of Kenya?", "answer": "Nairobi"},
        {"question": "What is the capital of Nauru?", "answer": "Yaren"},
    ]
)

scored = curate.score(facts, by="loss", model=model)
curate.select(scored, top=0.5, bottom=0.5, output=folder / "splits", format="prompt-completion")

splits = load_dataset(str(folder / "splits"))
for row in splits["top"]:
    print(row)

settings = SFTConfig(
    str(folder / "model"),
    max_steps=2,
    per_device_train_batch_size=2,
    report_to=[],
    save_strategy="no",
    use_cpu=not torch.cuda.is_available(),
)
SFTTrainer(model, args=settings, train_dataset=splits["top"]).train()
