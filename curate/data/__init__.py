"""QA data: what can be read, what its columns mean, how it is written."""
