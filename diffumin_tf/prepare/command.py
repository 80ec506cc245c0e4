"""Raw tables → day partitions of records: the entry point of `diffumin prepare`."""

from typing import Any

from diffumin_tf.errors import ConfigError
from diffumin_tf.prepare.eleme import prepare_eleme
from diffumin_tf.prepare.spec import ElemeSpec, SyntheticSpec, load_spec
from diffumin_tf.prepare.synthetic import prepare_synthetic
from diffumin_tf.prepare.table_adapter import prepare_tables


def prepare(spec_path: str, input_dir: str | None, output_dir: str) -> dict[str, Any]:
    """Makes `<output_dir>/<yyyymmdd>/part-*`, `data_struct.json` and `manifest.json`.

    A day appears complete or not at all. Running again keeps the complete days of the same spec
    and input and makes the missing ones.

    Args:
        spec_path: a `prepare.json`, see `diffumin_tf.prepare.spec`.
        input_dir: folder of the files that the spec names; None for a synthetic log.

    Returns:
        The manifest: spec, rows read and written, days, history lengths, bad lines.

    Raises:
        ConfigError: the spec is wrong, or needs an input.
        DataError: an input is missing, unreadable or has too many bad lines, the output holds data
            of another spec or input, or the disk is full.
    """
    spec = load_spec(spec_path)
    if isinstance(spec, SyntheticSpec):
        return prepare_synthetic(spec, output_dir)
    if not input_dir:
        raise ConfigError(f"{spec_path}: adapter {spec.adapter!r} reads files; give their --input")
    adapter = prepare_eleme if isinstance(spec, ElemeSpec) else prepare_tables
    return adapter(spec, input_dir, output_dir)
