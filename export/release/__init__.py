"""Export the models that ship, and pack them for model zoos; both need a checkout."""
