"""How fast `curate views build` is beside plain decompression, and how fast a table answers.

    python benchmarks/dump_build.py --megabytes 200 --repeats 3

Makes a realistic dump (benchmarks/realistic_dump.py), times `bzip2 -dc DUMP > /dev/null` and the build in turn,
so that whatever else the machine does falls on both, and joins a million titles to a table of ten million rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

JOIN = """
import resource, sys, time
from pathlib import Path
from curate.wikipedia.views import Reference
from curate.wikipedia.views import TableViews
views = TableViews(Path(sys.argv[1]))
references = [Reference("title", f"Article number {n * 13}") for n in range(1_000_000)]
started = time.perf_counter()
found = views.look_up(references)
seconds = time.perf_counter() - started
known = sum(f.views is not None for f in found.values())
print(seconds, known, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/curate-dump-benchmark"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "dump_build.json")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    result = {"cores": os.cpu_count(), "join": joining(options.folder)}
    result |= building(options.folder, options.megabytes, options.repeats)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def building(folder: Path, megabytes: float, repeats: int) -> dict[str, object]:
    dump = folder / "pageviews-202110-user.bz2"
    if not dump.exists():
        from realistic_dump import write_dump

        write_dump(dump, megabytes)
    build = ["curate", "views", "build", str(dump), "-o", str(folder / "views.parquet"), "--quiet"]
    plain, ours = [], []
    for _ in range(repeats):
        plain.append(timed(["bzip2", "-dc", str(dump)]))
        ours.append(timed(build))
    size = dump.stat().st_size / 1e6
    return {
        "compressed_megabytes": round(size, 1),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "bzip2_dc": plain,
        "views_build": ours,
        "speed_beside_bzip2": best(plain, "seconds") / best(ours, "seconds"),
        "cpu_beside_bzip2": best(ours, "cpu_seconds") / best(plain, "cpu_seconds"),
        "compressed_megabytes_per_second": size / best(ours, "seconds"),
    }


def joining(folder: Path) -> dict[str, float]:
    table = folder / "ten-million.parquet"
    if not table.exists():
        ten_million_rows(table)
    output = subprocess.run([sys.executable, "-c", JOIN, str(table)], check=True, capture_output=True, text=True)
    seconds, known, megabytes = map(float, output.stdout.split())
    return {"titles": 1e6, "rows": 1e7, "seconds": seconds, "found": known, "peak_megabytes": megabytes}


def ten_million_rows(path: Path) -> None:
    import duckdb

    query = "SELECT 'Article number ' || n AS title, n % 100000 AS views FROM range(10_000_000) AS t(n) ORDER BY 1"
    duckdb.sql(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


def timed(command: list[str]) -> dict[str, float]:
    """Wall and CPU seconds, and the most memory a command had."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_megabytes": round(usage.ru_maxrss / 1024),
    }


def best(runs: list[dict[str, float]], what: str) -> float:
    """The least of several runs: the one that the rest of the machine disturbed least."""
    return min(run[what] for run in runs)


if __name__ == "__main__":
    main()
