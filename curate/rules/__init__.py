"""What a selection is made of: what was asked for, the pool it is taken from, strata, budgets, the explanation."""
