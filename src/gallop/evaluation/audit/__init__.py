"""How a policy moves, measured at every physics step of its episodes."""
