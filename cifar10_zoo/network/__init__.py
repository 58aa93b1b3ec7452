"""The network and what it starts from."""
