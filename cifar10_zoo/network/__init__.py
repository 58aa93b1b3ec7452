"""The network: the tutorial's layers, a variant with batch normalization, and whitening filters."""
