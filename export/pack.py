"""Pack the models that ship for model zoos and servers: python export/pack.py."""

from release.pack import Options, pack

from cifar10_zoo.cli import run

if __name__ == "__main__":
    run(pack, Options)
