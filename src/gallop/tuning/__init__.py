"""Search for hyper-parameters with Optuna: spaces, rounds, retraining, and their results."""
