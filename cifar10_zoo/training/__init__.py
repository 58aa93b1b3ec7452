"""Everything that a training step changes, and how it is kept."""
