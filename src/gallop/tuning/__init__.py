"""Search for hyperparameters: studies of Optuna, and what is shown of them."""
