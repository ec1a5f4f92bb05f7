"""Experiments on the method, each with a table, a figure and a page: ``fastmef experiment``."""

from fastmef.experiments.budget import BUDGETS, Budget
from fastmef.experiments.run import EXPERIMENTS, run_experiment

__all__ = ["BUDGETS", "EXPERIMENTS", "Budget", "run_experiment"]
