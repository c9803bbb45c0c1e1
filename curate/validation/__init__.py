"""Validation: finetune the model on every split, evaluate, and say with error bars which one is better."""

import curate.lm  # noqa: F401  (how OpenMP is to wait is said there, which must be before PyTorch is loaded)
