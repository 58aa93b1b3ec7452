"""Everything that a training step changes, how it changes, and how it is saved."""
