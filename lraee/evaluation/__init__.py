"""Evaluation: enumerate configurations, fit them on `gate` and `select`, open `test` once, and tabulate."""
