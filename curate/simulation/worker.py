"""What a worker process runs: one part of an experiment after another, until nobody asks for more."""

from __future__ import annotations

from curate.piping import Owner


def main() -> None:
    """Is asked with what `make_part` takes, again and again; answers with the part."""
    owner = Owner()

    from curate.simulation.synthetic import make_part

    for part in owner.questions():
        owner.answer(make_part, part)


if __name__ == "__main__":
    main()
