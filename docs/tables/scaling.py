"""What 100 million examples on 64 GPUs come to: makes the tables in docs/scaling.md.

python docs/tables/scaling.py                  # the numbers on the page
python docs/tables/scaling.py --rate 900       # with a rate you have measured, in examples a second and GPU

No GPU was measured: the rate of one is computed from its peak, the share of it that is assumed to be reached, and the
operations of a forward pass (2 per parameter and token). What a driver costs is measured (benchmarks/driver_cost.py).
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

PAGE = Path(__file__).parents[1] / "scaling.md"
BEGIN, END = "<!-- plan: made by docs/tables/scaling.py -->", "<!-- end of plan -->"
CHUNK = 1024


@dataclass(frozen=True)
class Plan:
    """A dataset, a model, a cluster. Rates in examples a second, times in seconds, prices in dollars an hour."""

    examples: float = 100e6
    tokens: float = 25
    """Tokens read an example: a short question, its answer, little shared."""
    parameters: float = 7e9
    gpus: int = 64
    peak: float = 989e12
    """Operations a second of one GPU: H100, dense bfloat16, by its data sheet."""
    reached: float = 0.4
    price: float = 3.0
    drivers: int = 1
    driver_seconds: float = 29e-6
    """Processor time of a driver an example: benchmarks/driver_cost.py."""
    load_seconds: float = 60.0
    mean_time_between_failures: float = 200 * 3600.0
    """Of one GPU with its node."""
    measured_rate: float | None = None

    @property
    def rate(self) -> float:
        """Examples a second of one GPU."""
        if self.measured_rate is not None:
            return self.measured_rate
        return self.peak * self.reached / (2 * self.parameters * self.tokens)


def simulate(plan: Plan, seed: int = 0) -> dict[str, float]:
    """The run of one driver's share, chunk by chunk: hours, and the share of time that GPUs work.

    A driver prepares and takes in one chunk at a time, workers take 0.8 to 1.2 of the mean time for one and find the
    next one ready, and fail at random; a failed one loses its chunk and is away for as long as loading the model takes.
    """
    rng = random.Random(seed)
    chunks = round(plan.examples / plan.drivers / CHUNK)
    mean, cost = CHUNK / plan.rate, CHUNK * plan.driver_seconds
    workers = [(plan.load_seconds, n) for n in range(plan.gpus // plan.drivers)]
    driver_free = worked = last = 0.0
    done = 0
    while done < chunks:
        free, worker = heapq.heappop(workers)
        driver_free = max(driver_free, free - mean) + cost  # made ready while the one before is in work
        begun = max(free, driver_free)
        seconds = mean * rng.uniform(0.8, 1.2)
        if rng.random() < seconds / plan.mean_time_between_failures:
            heapq.heappush(workers, (begun + seconds * rng.random() + plan.load_seconds, worker))
            continue
        done, worked, last = done + 1, worked + seconds, max(last, begun + seconds)
        heapq.heappush(workers, (begun + seconds, worker))
    return {"hours": last / 3600, "busy": worked / (last * len(workers))}


def rows_of(plan: Plan) -> list[str]:
    """One line for each way to run it."""
    ways = [
        ("bfloat16, one driver", plan),
        ("bfloat16, 8 shards of 8 GPUs", replace(plan, drivers=8)),
        ("float32, one driver", replace(plan, peak=67e12)),
        ("float32, 8 shards of 8 GPUs", replace(plan, peak=67e12, drivers=8)),
    ]
    lines = []
    for name, way in ways:
        found = simulate(way)
        ideal = way.examples / way.rate / way.gpus / 3600
        lost = found["hours"] * 3600 * way.gpus / way.mean_time_between_failures
        dollars = found["hours"] * way.gpus * way.price
        lines.append(
            f"| {name} | {way.rate:,.0f} | {ideal:.2f} | {found['hours']:.2f} | {100 * found['busy']:.0f}% "
            f"| {lost:.1f} | {dollars:,.0f} |"
        )
    return lines


def memory_rows(plan: Plan) -> list[str]:
    """What has to fit where."""
    gigabyte = 1e9
    chunks = plan.examples / CHUNK
    return [
        f"| a worker, bfloat16 | {2 * plan.parameters / gigabyte:.0f} GB of weights, and a batch |",
        f"| a worker, float32 | {4 * plan.parameters / gigabyte:.0f} GB of weights, and a batch |",
        f"| the last driver, or merge: hashes of ids | {24 * plan.examples / gigabyte:.1f} GB at most |",
        f"| a driver: batches begun | {-(-2 * plan.gpus * CHUNK // 98_304) + 2} batches of 98,304 rows |",
        f"| disk: parts of an unfinished run | {chunks:,.0f} files |",
    ]


def block(plan: Plan) -> str:
    """What stands between the marks on the page."""
    head = "| run | examples/s a GPU | hours, ideal | hours, simulated | GPUs at work | workers lost | dollars |"
    tables: Sequence[str] = [
        f"{plan.examples:,.0f} examples of {plan.tokens:g} tokens, a model of {plan.parameters:,.0f} parameters, "
        f"{plan.gpus} GPUs at {100 * plan.reached:.0f}% of their peak, {plan.price:g} dollars a GPU and hour:",
        "",
        head,
        "|---|---:|---:|---:|---:|---:|---:|",
        *rows_of(plan),
        "",
        "| memory | |",
        "|---|---|",
        *memory_rows(plan),
    ]
    return "\n".join(tables)


def page(text: str) -> str:
    """The page with its tables as they come out now."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{block(Plan())}\n\n{END}{rest.split(END)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="examples a second of one GPU, as measured; only prints")
    options = parser.parse_args()
    if options.rate:
        print(block(Plan(measured_rate=options.rate)))
        return
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
