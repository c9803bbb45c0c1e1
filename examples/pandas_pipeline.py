"""Score and select inside a pandas pipeline: a DataFrame in, a DataFrame out.

Run it:  python examples/pandas_pipeline.py
"""

import pandas as pd

import curate

questions = pd.DataFrame(
    {
        "question": ["Who directed Alien?", "Who directed Heat?", "Who directed Stalker?", "Who directed Ikiru?"],
        "answers": [["Ridley Scott"], ["Michael Mann"], ["Andrei Tarkovsky", "Tarkovsky"], ["Akira Kurosawa"]],
        "subject": ["Alien", "Heat", "Stalker", "Ikiru"],
        "views": [212_000, 121_000, 64_000, None],
    }
)

scored = curate.score(questions, by="column:views")
selection = curate.select(scored, top=0.5, bottom=0.5)

print(selection["top"][["question", "score_views"]])
print(selection.summary()["missing"])
