"""Experiments on the method, each with a table, a figure and a page: ``fastmef experiment``."""

from fastmef.experiments.budget import Budget
from fastmef.experiments.run import run_experiment

__all__ = ["Budget", "run_experiment"]
