"""Episodes of a policy, and what their returns say."""
