"""Write the list of who imports whom to ARCHITECTURE.md.

python docs/import_map.py
"""

import re
from pathlib import Path

import grimp

ARCHITECTURE = Path(__file__).parent.parent / "ARCHITECTURE.md"
PACKAGES = ("cifar10_zoo", "cifar10_export", "release", "cifar10_runtime")
_PART = re.compile(r"(?s)(<!-- written by docs/import_map.py -->\n\n).*?(\n\n<!-- end -->)")


def listing() -> str:
    """Return one Markdown table per package: its modules and subpackages, and what each of them imports."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports: dict[str, set[str]] = {_room(module): set() for module in graph.modules}
    for module in graph.modules:
        imports[_room(module)] |= set(map(_room, graph.find_modules_directly_imported_by(module)))
    tables = []
    for package in PACKAGES:
        rooms = sorted(room for room in imports if _package(room) == package and imports[room] - {room})
        rows = [f"| `{_short(package, room)}` | {_names(package, imports[room] - {room})} |" for room in rooms]
        tables.append("\n".join([f"| in {package} | imports |", "|---|---|", *rows]))
    return "\n\n".join(tables)


def _room(module: str) -> str:
    """Return the module itself, or the subpackage that it is in."""
    return ".".join(module.split(".")[:2])


def _package(module: str) -> str:
    return module.partition(".")[0]


def _short(package: str, module: str) -> str:
    return module.removeprefix(f"{package}.") if module != package else "__init__"


def _names(package: str, modules: set[str]) -> str:
    return ", ".join(f"`{_short(package, module)}`" for module in sorted(modules))


if __name__ == "__main__":
    text = ARCHITECTURE.read_text(encoding="utf-8")
    ARCHITECTURE.write_text(_PART.sub(lambda part: part[1] + listing() + part[2], text), encoding="utf-8")
