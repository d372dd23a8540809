"""Exchanging runs and settings with rl-baselines3-zoo, and exporting to the Hugging Face hub."""
