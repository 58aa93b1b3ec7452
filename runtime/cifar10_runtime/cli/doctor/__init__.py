"""cifar10-infer doctor: what is installed, whether its answers are right, and which model is the fastest here."""
