"""The scripts in tools/, as modules."""

import importlib.util
import pathlib

TOOLS = pathlib.Path(__file__).parents[1] / "tools"


def tool(name):
    """The script of that name, imported."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
