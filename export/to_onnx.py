"""Export the EMA weights of the newest checkpoint: python export/to_onnx.py."""

from cifar10_export.command import Options, export

from cifar10_zoo.cli import run

if __name__ == "__main__":
    run(export, Options)
