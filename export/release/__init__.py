"""Release of models, for which a checkout is needed: export the models that ship, and pack them for model zoos."""
