"""What only a checkout can do: ship the models and pack the zoo entry."""
