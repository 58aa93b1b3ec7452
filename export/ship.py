"""Export every model that ships with cifar10-infer: python export/ship.py."""

from release.ship import Options, ship

from cifar10_zoo.cli import run

if __name__ == "__main__":
    run(ship, Options)
