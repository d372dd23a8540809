"""Gymnasium environments: single ones, and vectorised ones for training."""
