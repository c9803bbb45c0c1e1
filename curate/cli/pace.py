"""How fast something goes and when it will be done: arithmetic alone, no clock and no screen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Pace:
    """Rows and tokens a second, and the seconds left, since the first report of a run.

    The first report says where the run begins: what an earlier run had done costs this one no time, so it counts
    for nothing here. `done` may be a fraction of a row, since an estimator tells of work, not only of whole rows.
    """

    started: float
    begun_at: float
    now: float
    done: float
    tokens: int = 0

    def report(self, now: float, done: float, tokens: int) -> None:
        """At `now` seconds so many rows are done, and so many tokens more than at the last report."""
        self.now, self.done, self.tokens = now, done, self.tokens + tokens

    @property
    def rows_per_second(self) -> float | None:
        """None before there is anything to tell."""
        seconds, rows = self.now - self.started, self.done - self.begun_at
        return rows / seconds if seconds > 0 and rows > 0 else None

    @property
    def tokens_per_second(self) -> float | None:
        """None where no tokens are read."""
        return self.tokens / (self.now - self.started) if self.tokens and self.now > self.started else None

    def seconds_left(self, total: int) -> float | None:
        """What the rows that are left will take if all goes on as it went."""
        rate = self.rows_per_second
        return None if rate is None else max(0.0, total - self.done) / rate

    def line(self, total: int, unit: str = "rows") -> str:
        """`812 rows/s, 13,400 tokens/s, 0:12:08 left`; empty before there is anything to tell."""
        rate, tokens, left = self.rows_per_second, self.tokens_per_second, self.seconds_left(total)
        if rate is None or left is None:
            return ""
        speeds = [f"{_number(rate)} {unit}/s", *([f"{_number(tokens)} tokens/s"] if tokens else [])]
        hours, minutes, seconds = round(left) // 3600, round(left) // 60 % 60, round(left) % 60
        return ", ".join([*speeds, f"{hours}:{minutes:02}:{seconds:02} left"])


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
