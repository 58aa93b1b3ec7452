"""Build libraries that stand in for CUDA's, so that ONNX Runtime's CUDA provider runs on a machine without a GPU.

    python tests/cuda_stub/build.py .cuda            # .cuda/1.23.2 and .cuda/1.31.1

For each version of onnxruntime-gpu, DIR/VERSION/site gets its package, and DIR/VERSION/lib the libraries: cudart.cpp,
and generated functions that count their calls and succeed. The tests use them as LD_LIBRARY_PATH and PYTHONPATH. They
prove where nodes run, that no call breaks the rules of stream capture, and what happens after errors. They prove
neither numbers nor speed. Needs g++, nm and 600 MB per version.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    """A version of onnxruntime-gpu, and the CUDA that it was built for."""

    version: str
    cuda: int
    headers: tuple[str, ...]
    """The packages with CUDA's headers."""


WHEELS = (
    Wheel("1.23.2", 12, ("nvidia-cuda-runtime-cu12", "nvidia-cuda-nvcc-cu12")),
    Wheel("1.31.1", 13, ("nvidia-cuda-runtime<14", "nvidia-cuda-crt<14")),
)
"""The oldest version that pyproject.toml permits, and the newest one."""
_CREATES = re.compile("cudnnCreate|cublasCreate|cublasLt.*Create")
_ANSWERS = {
    "cublasLtMatmulAlgoGetHeuristic": (
        "void *a, void *b, void *c, void *d, void *e, void *f, void *g, int n, void *result, int *count",
        "memset(result, 0, 64); *count = 1;",
    ),
    "cublasGetMathMode": ("void *handle, int *mode", "*mode = 0;"),
    "cudnnGetReductionIndicesSize": ("void *a, void *b, void *c, void *d, size_t *size", "*size = 256;"),
    "cudnnGetReductionWorkspaceSize": ("void *a, void *b, void *c, void *d, size_t *size", "*size = 256;"),
    "cudnnGetConvolutionForwardWorkspaceSize": (
        "void *a, void *b, void *c, void *d, void *e, int algorithm, size_t *size",
        "*size = 1024;",
    ),
    "cudnnGetConvolutionForwardAlgorithm_v7": (
        "void *a, void *b, void *c, void *d, void *e, int n, int *count, int *found",
        "*count = 1; memset(found, 0, 48);",
    ),
    "cudnnFindConvolutionForwardAlgorithmEx": (
        "void *a, void *b, void *c, void *d, void *e, void *f, void *g, void *h, int n, int *count, int *found",
        "*count = 1; memset(found, 0, 48);",
    ),
    "cudnnGetLastErrorString": ("char *message, size_t size", "if (size) *message = 0;"),
    "cudnnBackendCreateDescriptor": ("int type, void **descriptor", "*descriptor = calloc(1, 64);"),
    # cuDNN's frontend asks for engines and plans (types 15, 23), numerical notes (11), and sizes (3, 0, 4, 13).
    "cudnnBackendGetAttribute": (
        "void *descriptor, int name, int type, int64_t wanted, int64_t *count, void *out",
        "int64_t n = 0;"
        " if (type == 15) n = name == 202 || name == 300 || name == 301 || name == 401;"
        " else if (type == 23 || type == 11) { n = 1; if (out) memset(out, 0, 4); }"
        " else if (type == 3 || type == 0 || type == 4) { n = 1; if (out && wanted > 0) memset(out, 0, 8); }"
        " else if (type == 13) { n = 1; if (out && wanted > 0) *(char *)out = 0; }"
        " if (count) *count = n;",
    ),
}
"""Arguments and bodies of the functions that must answer."""
_HEADER = "#include <stdint.h>\n#include <stdlib.h>\n#include <string.h>\nvoid stub_count(const char *);\n"


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    for wheel in WHEELS:
        if not (folder / wheel.version / "lib" / "libcudnn.so.9").exists():  # the last library
            build(wheel, folder / wheel.version)


def build(wheel: Wheel, folder: Path) -> None:
    """Install ``wheel`` into ``folder`` and write the libraries that its CUDA provider needs."""
    site, lib, headers = folder / "site", folder / "lib", folder / "headers"
    lib.mkdir(parents=True, exist_ok=True)
    _install(site, f"onnxruntime-gpu=={wheel.version}")
    _install(headers, *wheel.headers)
    provider = site / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    needed = _undefined_symbols(provider)
    runtime = f"libcudart.so.{wheel.cuda}"
    _compile_runtime(lib, runtime, headers, needed)
    for library in (f"libcublas.so.{wheel.cuda}", f"libcublasLt.so.{wheel.cuda}"):
        _compile(lib, library, [name for name, source in needed if source == library], runtime, versioned=True)
    # The provider looks most functions of cuDNN up by name: the names are strings in the file.
    strings = {name.decode() for name in re.findall(rb"\x00(cudnn[A-Z]\w+)(?=\x00)", provider.read_bytes())}
    cudnn = strings | {name for name, _ in needed if name.startswith("cudnn")}
    for library in _libraries(provider):
        if not (lib / library).exists() and library.startswith(("libcuda.", "libcufft", "libcurand", "libnvrtc")):
            _compile(lib, library, [name for name, source in needed if source == library], runtime)
    _compile(lib, "libcuda.so.1", ["cuInit", "cuTensorMapEncodeTiled"], runtime)
    _compile(lib, "libcudnn.so.9", [*cudnn, "cudnnGetErrorString", "cudnnGetLastErrorString"], runtime)


def _install(target: Path, *packages: str) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.check_call([*pip, "--target", str(target), *packages])


def _undefined_symbols(library: Path) -> list[tuple[str, str]]:
    """Return each function that ``library`` imports, with the library that has it, empty if that is unknown."""
    words = subprocess.check_output(["nm", "-D", "--undefined-only", str(library)], text=True).split()
    return [(name, source) for name, _, source in (word.partition("@") for word in words)]


def _libraries(library: Path) -> list[str]:
    """Return the libraries that ``library`` needs."""
    dynamic = subprocess.check_output(["readelf", "-d", str(library)], text=True)
    return re.findall(r"NEEDED.*\[(.*)\]", dynamic)


def _compile_runtime(lib: Path, name: str, headers: Path, needed: list[tuple[str, str]]) -> None:
    """Compile cudart.cpp, and the functions of CUDA's runtime that it does not define."""
    source = Path(__file__).with_name("cudart.cpp")
    include = [f"-I{folder}" for folder in headers.glob("nvidia/**/include")]
    object_file = lib / "cudart.o"
    subprocess.check_call(["g++", "-w", "-O1", "-fPIC", "-c", *include, str(source), "-o", str(object_file)])
    defined = set(subprocess.check_output(["nm", "--defined-only", "-j", str(object_file)], text=True).split())
    others = [function for function, library in needed if library == name and function not in defined]
    _compile(lib, name, others, "", versioned=True, objects=[str(object_file), "-lstdc++"])


def _compile(
    lib: Path, name: str, functions: list[str], runtime: str, versioned: bool = False, objects: Sequence[str] = ()
) -> None:
    source = lib / f"{name}.c"
    source.write_text(_HEADER + "".join(map(_function, sorted(set(functions)))))
    command = ["gcc", "-w", "-O1", "-fPIC", "-shared", str(source), *objects, "-o", str(lib / name)]
    command.append(f"-Wl,-soname,{name}")
    if runtime:
        command += [f"-L{lib}", f"-l:{runtime}"]
    if versioned:
        versions = lib / f"{name}.map"
        versions.write_text(f"{name} {{ global: *; }};")
        command.append(f"-Wl,--version-script,{versions}")
    subprocess.check_call(command)


def _function(name: str) -> str:
    """Return the C source of a function that counts its calls and succeeds."""
    if name.endswith(("StatusName", "StatusString", "GetErrorString")):
        return f'const char *{name}(int status) {{ return "stub"; }}\n'
    if name == "cudnnGetVersion":
        return f"size_t {name}(void) {{ return 91300; }}\n"
    if name == "cudnnGetCudartVersion":
        return f"size_t {name}(void) {{ return 13000; }}\n"
    creates = ("void **object", "*object = calloc(1, 4096);")
    arguments, body = _ANSWERS.get(name, creates if _CREATES.match(name) else ("void", ""))
    return f'int {name}({arguments}) {{ stub_count("{name}"); {body} return 0; }}\n'


if __name__ == "__main__":
    main()
