"""The command line of cifar10-infer-ray."""

import argparse
from collections.abc import Sequence

from cifar10_runtime.cli import parser as cli
from cifar10_runtime.cluster.options import RayOptions
from cifar10_runtime.cluster.sources import SUFFIXES
from cifar10_runtime.version import version_of

_DESCRIPTION = """\
Classify images on a Ray cluster.

The images come from folders and prefixes of image files, tar shards (WebDataset) and Parquet files, local or at a URL
that fsspec knows (s3://bucket/prefix). Folders and prefixes are searched for files that end in
{suffixes}.

The results are Parquet files: part-000000.parquet and so on. Read in the order of their names, they have one row per
image, with the columns of cifar10-infer.
"""


def parse(args: Sequence[str] | None) -> RayOptions:
    """Return the options in ``args``; None means the command line.

    Raises:
        UsageError: An option is unknown, missing or has a value of the wrong type.
    """
    found = vars(parser().parse_args(args))
    return RayOptions(**found | {"paths": tuple(found["paths"])})


def parser() -> argparse.ArgumentParser:
    """Return the parser of cifar10-infer-ray."""
    result = cli.Parser(
        "cifar10-infer-ray",
        description=_DESCRIPTION.format(suffixes=" ".join(SUFFIXES)),
        epilog=cli.EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    version = f"%(prog)s {version_of('cifar10-zoo')}"
    add("--version", action="version", version=version, help="print the version and exit")
    add("paths", nargs="+", metavar="PATH", help="folders, files, quoted glob patterns or URLs")
    add("--output", required=True, metavar="FOLDER", help="new or empty folder, or URL, for the Parquet files")
    add("--resume", action="store_true", help="continue the same command if it was interrupted")
    add(
        "--partition-size",
        type=int,
        default=RayOptions.partition_size,
        metavar="N",
        help="image files per partition, and so per Parquet file of results (default: %(default)s)",
    )
    add(
        "--column",
        default=RayOptions.column,
        metavar="NAME",
        help="column of images in Parquet files (default: %(default)s)",
    )
    add(
        "--top-k",
        type=int,
        default=RayOptions.top_k,
        metavar="K",
        help="labels per row (default: %(default)s)",
    )
    add(
        "--address",
        metavar="ADDRESS",
        help="Ray cluster: HOST:PORT, or auto for the cluster that this machine belongs to "
        "(default: $RAY_ADDRESS, else a new cluster on this machine)",
    )
    cli.add_features_option(result)
    cli.add_unknown_options(result)
    cli.add_model_options(result)
    cli.add_image_options(result)
    return result
