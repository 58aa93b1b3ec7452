"""Keep the results of a run of the benchmarks, and update the tables and the plot on the pages.

    python benchmarks/report.py RAW.json     # what pytest --benchmark-json=RAW.json wrote; `make bench` calls it
    python benchmarks/report.py              # only the pages

The pages show the newest results in benchmarks/results/: README.md the strongest peers, docs/benchmarks.md all peers.
"""

import sys
from pathlib import Path
from statistics import median

from cifar10_runtime import atomic

from benchmarks import machine, plot, runs
from benchmarks.comparisons import COMPARISONS, MARKS, MEASUREMENTS, Comparison, label
from benchmarks.pages import replace_part, table
from benchmarks.runs import RESULTS, Run

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = RESULTS / "throughput.png"
EXPLANATION = (
    "Each value is the median of {count} of `make bench`; a run may lack a benchmark. Each ratio says how many times "
    "better this project is than the peer; below 1, the peer is better. A ratio is the median of the ratios of the "
    "runs; in a run, the calls of both are interleaved.\n"
    "The default export is the file that `torch.onnx.export` makes of the network in standard PyTorch."
)


def main(arguments: list[str]) -> None:
    """Keep the run if one is given; then update the pages."""
    name = runs.keep(Path(arguments[0])) if arguments else runs.newest_name()
    results = runs.read(name)
    atomic.write_file(PLOT, plot.throughput(results))
    replace_part(README, "<!-- results -->", "<!-- end of results -->", strongest_peers(results))
    replace_part(PAGE, "<!-- measured by make bench -->", "<!-- end -->", all_peers(results))


def strongest_peers(results: list[Run]) -> str:
    """Return the README's part: one row per comparison, with the peer that comes closest to us or is ahead."""
    rows = []
    for comparison in COMPARISONS:
        for peer in comparison.peers(results)[:1]:
            ours = comparison.form.format(peer.our_value)
            theirs = f"{comparison.form.format(peer.value)}: {label(peer.name, comparison.dtype)}"
            rows.append([comparison.title, ours, theirs, f"{peer.ratio:.2f}x"])
    return f"{table(['', 'this project', 'strongest measured peer', 'ratio'], rows)}\n\n{conditions(results)}"


def all_peers(results: list[Run]) -> str:
    """Return the part of docs/benchmarks.md: a table per comparison, the other measurements, and the plot."""
    tables = [peers_table(comparison, results) for comparison in (*COMPARISONS, *MARKS) if comparison.peers(results)]
    others = f"## Measurements without a peer\n\n{measurements_table(results)}"
    picture = f"![images/s by batch size](../{PLOT.relative_to(ROOT).as_posix()})"
    return "\n\n".join([conditions(results), picture, *tables, others])


def conditions(results: list[Run]) -> str:
    """Say in words how often and on what the results were measured."""
    count = "one run" if len(results) == 1 else f"{len(results)} runs"
    return f"{EXPLANATION.format(count=count)}\n{machine.in_words(results[-1].machine)}"


def peers_table(comparison: Comparison, results: list[Run]) -> str:
    """Return a heading and a table of all peers, the strongest first."""
    ours = comparison.form.format(comparison.our_value(results))
    name = "this project" if comparison.ours == "ours" else f"this project: {comparison.ours}"
    rows = [[f"**{name}**", f"**{ours}**", "", ""]]
    for peer in comparison.peers(results):
        value = comparison.form.format(peer.value)
        low, high = min(peer.ratios), max(peer.ratios)
        rows.append([label(peer.name, comparison.dtype), value, f"{peer.ratio:.2f}x", f"{low:.2f}x to {high:.2f}x"])
    return f"## {comparison.title}\n\n{table(['', 'value', 'ratio', 'lowest to highest run'], rows)}"


def measurements_table(results: list[Run]) -> str:
    """Return a table of the numbers that have no peer."""
    rows = []
    for measurement in MEASUREMENTS:
        values = [value for value in map(measurement.value, results) if value is not None]
        if values:
            middle, low, high = (measurement.form.format(each(values)) for each in (median, min, max))
            rows.append([measurement.title, middle, f"{low} to {high}"])
    return table(["", "value", "lowest to highest run"], rows)


if __name__ == "__main__":
    main(sys.argv[1:])
