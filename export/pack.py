"""Pack the models that ship for model zoos and servers: python export/pack.py."""

from cifar10_export.zoo import Options, pack

from cifar10_zoo.cli import run

if __name__ == "__main__":
    run(pack, Options)
