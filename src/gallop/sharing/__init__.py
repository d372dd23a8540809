"""Runs for others: rl-baselines3-zoo and the Hugging Face hub."""
