"""The paper's tables and figure, and other tasks in the same way, with one call each.

catalog.yaml   experiments and presets
request        one command
jobs, record   each method with each seed, and what is left to do
runner         does the jobs
accuracy, weights, times   the kinds of experiment
dry_run, estimate   what a command would do, and its cost
paper          the paper's numbers, and ours beside them
recipe_plan, recipe_comparison   a user's own grid of settings, with the same jobs and runner
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
