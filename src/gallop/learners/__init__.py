"""Learners: whatever changes a policy. `learner.py` says what each of them must offer."""
