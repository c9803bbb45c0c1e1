"""Score and select between the steps of a `datasets` pipeline: a Dataset in, a Dataset out.

Run it:  python examples/datasets_map.py
"""

from datasets import Dataset

import curate

facts = Dataset.from_list(
    [
        {"film": "Alien", "director": "Ridley Scott", "views": 212_000},
        {"film": "Heat", "director": "Michael Mann", "views": 121_000},
        {"film": "Stalker", "director": "Andrei Tarkovsky", "views": 64_000},
        {"film": "Ikiru", "director": "Akira Kurosawa", "views": 9_000},
    ]
)

questions = facts.map(lambda row: {"question": f"Who directed {row['film']}?", "answer": row["director"]})
scored = curate.score(questions, by="column:views", subject_column="film")
best_known = curate.select(scored, top=0.5).kept
chats = best_known.map(lambda row: {"messages": [{"role": "user", "content": row["question"]}]})

print(type(chats).__name__, chats["film"][:], chats[0]["messages"])
