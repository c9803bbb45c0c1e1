"""Recipes: dataset, estimators, selection and validation of one experiment in one YAML file, and what runs it."""
