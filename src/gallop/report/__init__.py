"""What a run prints and plots: plans, progress, tables, figures and films."""
