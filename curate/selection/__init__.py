"""Choosing rows by their scores."""
