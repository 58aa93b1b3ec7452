"""Classify image files: python -m cifar10_runtime, the same as cifar10-infer."""

from cifar10_runtime.cli.main import main

main()
