"""The command cifar10-infer-ray: classify on a Ray cluster."""
