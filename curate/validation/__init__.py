"""Validation: finetune the model on every split, evaluate, and say with error bars which one is better."""
