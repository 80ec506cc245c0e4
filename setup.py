"""Packaging of diffumin_tf; ``exp/`` travels along as ``share/diffumin_tf/exp``."""

import pathlib

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
EXPERIMENTS = sorted({path.parent for path in (ROOT / "exp").rglob("*.json")})
SERVING = ["pyyaml>=6,<7"]

setup(
    name="diffumin_tf",
    version="0.1.0",
    description="DiffuMIN click-through-rate models in TensorFlow/Keras",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["diffumin_tf*", "handle_layer*"]),
    package_data={"diffumin_tf.prepare.report": ["*.html"]},
    data_files=[
        (
            f"share/diffumin_tf/{folder.relative_to(ROOT).as_posix()}",
            [path.relative_to(ROOT).as_posix() for path in sorted(folder.glob("*.json"))],
        )
        for folder in EXPERIMENTS
    ],
    install_requires=[
        "tensorflow>=2.18,<2.22",
        "tensorflow-serving-api>=2.18,<2.22",  # protos: warm-up of an export, gRPC
        "tf-keras>=2.18,<2.22",
        "tensorflow-recommenders>=0.7.6,<0.8",
        "numpy>=1.26,<3",
        "pandas>=2.2,<4",
        "pyarrow>=15,<27",
        "duckdb>=1.4,<3",
        "absl-py>=2.1,<3",
        "pydantic>=2.7,<3",
        "jinja2>=3.1,<4",
        "matplotlib>=3.8,<4",
    ],
    extras_require={
        "serving": SERVING,
        "spark": ["pyspark>=4,<5"],
        "test": [
            "pytest>=8,<10",
            "pytest-xdist>=3.7,<4",
            "ruff>=0.17,<0.18",
            "import-linter>=2.17,<3",
            *SERVING,
        ],
    },
    entry_points={"console_scripts": ["diffumin = diffumin_tf.cli:run"]},
)
