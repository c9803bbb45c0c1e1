"""Running a language model: loading it, the loss of an answer, greedy answers."""
