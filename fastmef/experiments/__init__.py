"""Experiments on the method. ``fastmef experiment`` runs them and writes tables and figures."""

from fastmef.experiments.budget import Budget
from fastmef.experiments.run import run_experiment

__all__ = ["Budget", "run_experiment"]
