"""Gallop: from hyper-parameters to a trained, evaluated and filmed locomotion policy.

Reading order is import order: experiment, seeding, statistics, environments, learners,
run_directory, checkpoint, evaluation, training, figures, video, workflow, cli.
"""

__version__ = "0.1.0"
