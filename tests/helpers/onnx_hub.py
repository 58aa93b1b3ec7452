"""Load every model of a packed zoo as ``onnx.hub`` does, in a release of onnx that has it.

python tests/helpers/onnx_hub.py ZOO CACHE
"""

import sys
from pathlib import Path

from onnx import hub  # type: ignore[attr-defined]


def main(zoo: Path, cache: Path) -> None:
    """Models and test data get to ``cache`` by the paths of the manifest, and their hashes are right."""
    hub.set_dir(str(cache))
    hub._verify_repo_ref = lambda _repo: True
    hub._get_base_url = lambda _repo, _lfs=False: f"{zoo.resolve().as_uri()}/"
    names = []
    for about in hub.list_models("owner/zoo:main", tags=["cifar10"]):
        model = hub.load(about.model, "owner/zoo:main", silent=True)
        assert model is not None
        assert model.graph.input[0].name == about.metadata["io_ports"]["inputs"][0]["name"]
        folder = hub.download_model_with_test_data(about.model, "owner/zoo:main", silent=True)
        assert folder is not None
        assert Path(folder, "test_data_set_0", "input_0.pb").is_file()
        names.append(about.model)
    print(*names)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
