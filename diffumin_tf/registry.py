"""Input units by name: `"module:Class"` among the classes in `handle_layer/handle_lib`."""

import importlib
import inspect
import pkgutil

from diffumin_tf.errors import ConfigError, did_you_mean

_BASES = "handle_base"


def input_units() -> dict[str, type]:
    """Every input unit there is, as `{"module:Class": class}`.

    Only modules that lie in `handle_layer/handle_lib` are imported: a name from a
    configuration is looked up here and never imported itself.
    """
    from handle_layer import handle_lib
    from handle_layer.handle_lib.handle_base import InputUnit

    units = {}
    for info in pkgutil.iter_modules(handle_lib.__path__):
        if info.name == _BASES:
            continue
        module = importlib.import_module(f"{handle_lib.__name__}.{info.name}")
        for name, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, InputUnit) and member.__module__ == module.__name__:
                units[f"{info.name}:{name}"] = member
    return units


def input_unit(name: str) -> type:
    """The unit of that name.

    Raises:
        ConfigError: no unit has the name; names the nearest one.
    """
    units = input_units()
    if name not in units:
        raise ConfigError(
            f"input_units: unknown unit {name!r}{did_you_mean(name, units)}; "
            f"known: {', '.join(sorted(units))}"
        )
    return units[name]
