"""How much of PopQA a model knows, by how often the subject is read about: over all questions and inside relations.

    python examples/real_models/deciles.py WORK/scored.parquet -o docs/results/figures/smollm2-deciles.png

Reads what run.py scored by `known`: the share of ten sets of four solved questions after which the greedy answer is
right. Inside relations every tenth holds the same relations, so it shows popularity and not how easy a relation is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

RARE = 4
"""An answer that occurs at most so often in its relation can hardly be guessed."""


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that were measured, with `rare` and the tenth of views that they are in: `all`, `inside` relations."""
    frame = frame[frame["known_status"] == "ok"].copy()
    answer = frame["prop"] + "/" + frame["obj"].str.lower()
    frame["rare"] = answer.map(answer.value_counts()) <= RARE
    views, inside = frame["s_pop"], frame.groupby("prop")["s_pop"]
    frame["all"] = np.ceil(views.rank(method="first", pct=True) * 10).astype(int)
    frame["inside"] = np.ceil(inside.rank(method="first", pct=True) * 10).astype(int)
    return frame


def by_tenth(frame: pd.DataFrame, tenth: str) -> pd.DataFrame:
    """A row a tenth: median views, P0 in per cent with its standard error, and P0 of rare answers."""
    groups = frame.groupby(tenth)
    rare = frame[frame["rare"]].groupby(tenth)["known_greedy"]
    return pd.DataFrame({
        "views": groups["s_pop"].median(),
        "P0": 100 * groups["known_greedy"].mean(),
        "stderr": 100 * groups["known_greedy"].sem(),
        "P0 of rare answers": 100 * rare.mean(),
        "stderr of rare": 100 * rare.sem(),
    })  # fmt: skip


def correlation(frame: pd.DataFrame) -> float:
    """Rank correlation of views and P0 inside relations: ranks, less their mean in the relation."""
    ranks = frame.groupby("prop")[["s_pop", "known_greedy"]].rank(pct=True)
    centred = ranks - ranks.groupby(frame["prop"]).transform("mean")
    return float(centred.corr().iloc[0, 1])


def interval(frame: pd.DataFrame, times: int = 500) -> tuple[float, float]:
    """95% of it, by drawing questions anew."""
    random = np.random.default_rng(0)
    drawn = [correlation(frame.iloc[random.integers(0, len(frame), len(frame))]) for _ in range(times)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def draw(frame: pd.DataFrame, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for tenth, label in (("all", "all questions"), ("inside", "inside relations")):
        rows = by_tenth(frame, tenth)
        axes.errorbar(rows.index, rows["P0"], yerr=rows["stderr"], marker="o", capsize=2, label=label)
    rows = by_tenth(frame, "inside")
    axes.errorbar(rows.index, rows["P0 of rare answers"], yerr=rows["stderr of rare"], marker="s", capsize=2,
                  label="inside relations, answers that are hard to guess")  # fmt: skip
    axes.set(xlabel="tenth of page views (10: most read)", ylabel="known, % (P0)", xticks=range(1, 11), ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scored", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="the figure")
    given = parser.parse_args()
    frame = measured(pd.read_parquet(given.scored))
    for tenth in ("all", "inside"):
        print(f"{tenth}:\n{by_tenth(frame, tenth).round(1).to_string()}\n")
    for name, rows in (("all answers", frame), ("rare answers", frame[frame["rare"]])):
        low, high = interval(rows)
        print(f"{name}: {len(rows)} questions, correlation inside relations {correlation(rows):+.3f} "
              f"({low:+.3f} to {high:+.3f})")  # fmt: skip
    if given.output:
        draw(frame, given.output)


if __name__ == "__main__":
    main()
