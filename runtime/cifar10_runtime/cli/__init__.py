"""The command cifar10-infer."""
