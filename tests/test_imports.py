"""What `import bittern` brings: every public name, from its module when it is first used; no more than a run needs."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import bittern
import pytest

from tests.builders import digits_like

# All that a process loads to load a file and run it; NumPy's part and Python's own do not count.
NEEDED = {"bittern", "bittern._native", "bittern.errors", "bittern.model", "bittern.values"}
HEAVY = {"dataclasses", "json", "pathlib", "onnx", "onnxruntime", "PIL", "torch"}
FUNCTIONS = {
    *(
        "add_residual_levels",
        "compress",
        "convert",
        "cpu",
        "fold_dead_neurons",
        "gradual_sparsity",
        "kernels",
        "limits",
        "load",
        "panel_limit",
    ),
    *("prune_filters", "prune_sensitivity", "remove_channels", "residual_scales", "sparse_outlook", "verify"),
}


def python(script: str, *arguments: object) -> str:
    """What a fresh process prints; it must succeed."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loading_and_running_imports_little(tmp_path: Path) -> None:
    digits_like().save(tmp_path / "net.bittern")
    script = (
        "import sys, numpy as np; before = set(sys.modules); import bittern; model = bittern.load(sys.argv[1]);"
        "model(np.zeros((1, 1, 8, 8), np.float32)); print(*sorted(set(sys.modules) - before))"
    )
    loaded = set(python(script, tmp_path / "net.bittern").split())
    assert {name for name in loaded if name.partition(".")[0] == "bittern"} == NEEDED
    assert not loaded & HEAVY


def test_every_name_is_there() -> None:
    assert set(bittern.__all__) <= set(dir(bittern))
    for name in bittern.__all__:
        kind = str if name == "__version__" else ModuleType if name == "encodings" else FunctionType
        assert isinstance(getattr(bittern, name), kind if name.islower() else type), name
    assert {name for name in bittern.__all__ if isinstance(getattr(bittern, name), FunctionType)} == FUNCTIONS
    python(
        "from bittern import *; import bittern;"
        "assert all(globals()[name] is getattr(bittern, name) for name in bittern.__all__)"
    )


def test_type_checkers_see_the_same_names() -> None:
    """The imports that only type checkers read are those that the package makes."""
    seen = {}
    for node in ast.walk(ast.parse(Path(bittern.__file__).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bittern."):
            seen.update({alias.name: node.module for alias in node.names})
    homes = {name: f"bittern.{home}" for home, names in vars(bittern)["_HOMES"].items() for name in names}
    assert seen == homes
    assert {*homes, "encodings", "__version__"} == set(bittern.__all__)
    for name, home in homes.items():
        assert getattr(bittern, name).__module__ == home


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(bittern, "nonsense")  # noqa: B009 - a type checker refuses bittern.nonsense
    with pytest.raises(ImportError):
        exec("from bittern import nonsense")


def test_no_module_takes_a_functions_name() -> None:
    """Importing a module sets it as an attribute of the package, and a function of that name would be gone."""
    modules = {module.name for module in pkgutil.iter_modules(bittern.__path__)}
    assert "model" in modules and not modules & (set(bittern.__all__) - {"encodings"})


def test_functions_stay_functions_in_any_order() -> None:
    """Importing all modules of the package, in either order, after the functions' first use or before, hides none."""
    modules = sorted(
        module.name
        for module in pkgutil.walk_packages(bittern.__path__, "bittern.")
        if module.name not in ("bittern.__main__", "bittern.onnx_backend")  # a command; a module that needs onnx
    )
    assert "bittern.compression.recipes" in modules and "bittern.verification" in modules
    script = """
import sys
from importlib import import_module
from types import FunctionType
import bittern
functions, modules = sys.argv[1].split(), sys.argv[2].split()
def check():
    assert all(type(getattr(bittern, name)) is FunctionType for name in functions)
if sys.argv[3] == "after":
    check()
for name in modules if sys.argv[3] == "after" else reversed(modules):
    import_module(name)
check()
assert bittern.compress.__name__ == "compress" and bittern.verify.__module__ == "bittern.verification"
"""
    for use in ("after", "before"):
        python(script, " ".join(sorted(FUNCTIONS)), " ".join(modules), use)
