"""Lookups per second against a local server, with and without a rate limit.

    python benchmarks/views_client.py --subjects 2000

The server runs in a process of its own and answers after a delay like a real one's. With a limit, the limit should
be what is reached; without one, what is reached is the cost of the client and the delay.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

SERVER = """
import sys, time
from tests.wikimedia_server import Article, WikimediaServer, World
world = World(articles={f"Subject {n}": Article({"2021-10": n + 1}) for n in range(int(sys.argv[1]))},
              delay=float(sys.argv[2]))
with WikimediaServer(world) as server:
    print(server.url, flush=True)
    time.sleep(3600)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=2000)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds until the server answers")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "views_client.json")
    options = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(options.subjects), str(options.delay)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        runs = [measure(url, options.subjects, rate) for rate in (20, 50, 100, 200, None)]
    finally:
        server.kill()
    result = {"cores": os.cpu_count(), "load_average": os.getloadavg()[0], "delay": options.delay, "runs": runs}
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measure(url: str, subjects: int, rate: float | None) -> dict[str, float | None]:
    """Look up as many subjects as take about five seconds at the rate."""
    from curate.wikipedia.options import PageviewSettings, parse_window
    from curate.wikipedia.views import ApiViews, Reference, open_resolver

    count = min(subjects, int(5 * rate)) if rate else subjects
    settings = PageviewSettings(pageviews_url=url, mediawiki_url=url, rate=rate or 0).resolved()
    with tempfile.TemporaryDirectory() as folder:
        resolver = open_resolver(settings, Path(folder) / "cache.sqlite")
        views = ApiViews(resolver, parse_window("2021-10", date.today()))
        started = time.perf_counter()
        found = views.look_up([Reference("title", f"Subject {n}") for n in range(count)])
        seconds = time.perf_counter() - started
        resolver.cache.close()
    assert all(found[Reference("title", f"Subject {n}")].views == n + 1 for n in range(count))
    requests = views.stats.requests
    return {
        "rate": rate,
        "subjects": count,
        "requests": requests,
        "seconds": round(seconds, 2),
        "requests_per_second": round(requests / seconds, 1),
        "share_of_the_limit": round(requests / seconds / rate, 3) if rate else None,
    }


if __name__ == "__main__":
    main()
