"""Estimators: each gives every example a popularity score, higher for better known."""
