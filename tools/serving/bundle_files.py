"""The texts of a bundle; their paths are those inside a container, or relative to the bundle."""

from collections.abc import Sequence

from tools.serving.saved_model import Version, merges

METRICS_PATH = "/monitoring/prometheus/metrics"

_MODELS = """\
# The versions that a server holds, and their labels ("Rolling out" in docs/serving.md).
# Servers read this file again every 30 seconds.
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{
      specific {{
{versions}
      }}
    }}
{labels}
  }}
}}
"""

_BATCHING = """\
# For the server "batching" of compose.yaml alone ("Batching" in docs/serving.md).
max_batch_size { value: 1024 }            # samples of one request; with more it is refused
enable_large_batch_splitting { value: true }
max_execution_batch_size { value: 64 }    # samples that run at once
batch_timeout_micros { value: 2000 }      # how long a sample waits for others, at most
max_enqueued_batches { value: 100 }       # with more waiting, requests are refused: UNAVAILABLE
num_batch_threads { value: 4 }            # the processor cores of the machine
# Padding would repeat the first id of a request, and so invent behaviours.
pad_variable_length_inputs: false
"""

_MONITORING = f"""\
prometheus_config {{
  enable: true
  path: "{METRICS_PATH}"
}}
"""

_PROMETHEUS = f"""\
global:
  scrape_interval: "15s"
scrape_configs:
  - job_name: "serving"
    metrics_path: "{METRICS_PATH}"
    static_configs:
      - targets: ["serving:8501"]
  # A target only while that server runs.
  - job_name: "batching"
    metrics_path: "{METRICS_PATH}"
    dns_sd_configs:
      - names: ["batching"]
        type: "A"
        port: 8501
"""

_COMPOSE = """\
# Model {name} on TensorFlow Serving. The file .env beside this one says MODELS=…, the absolute path
# of the folder that holds the versions.
#   docker compose up -d                       all signatures
#   docker compose --profile batching up -d    and a server that batches {batched}
#
# Ports are open on {publish}; there is no authentication.
#
# Memory: each server holds {held}, {size} on the disk. TensorFlow Serving reckons with 1.2 times
# that; its own memory and that of requests in work come on top, and so does, while one version
# replaces another, the new one beside the old one.
services:
  serving:
{serving}
  batching:
    profiles: ["batching"]
{batching}
  prometheus:
    image: "prom/prometheus:v3.5.0"
    restart: "unless-stopped"
    ports: ["{publish}:9090:9090"]
    volumes:
      - "./prometheus.yml:/etc/prometheus/prometheus.yml:ro"
"""

_SERVER = """\
    image: "{image}"
    restart: "unless-stopped"
    entrypoint: ["/usr/bin/tensorflow_model_server"]
    command:
      - "--port=8500"
      - "--rest_api_port=8501"
      - "--model_config_file=/bundle/models.config"
      - "--model_config_file_poll_wait_seconds=30"
      - "--allow_version_labels_for_unavailable_models=true"
      - "--monitoring_config_file=/bundle/monitoring.config"
{flags}    ports: ["{publish}:{grpc}:8500", "{publish}:{rest}:8501"]
    volumes:
      - "${{MODELS:?must be the folder that holds the versions}}:/models/{name}:ro"
      - ".:/bundle:ro"
    healthcheck:
      test: ["CMD", "/bin/bash", "-c", "{health}"]
      interval: "10s"
      timeout: "5s"
      retries: 3
      start_period: "120s"
"""

_BATCHING_FLAGS = """\
      - "--enable_batching=true"
      - "--batching_parameters_file=/bundle/batching.config"
      # The warm-up of a version holds `request`, which fails here, and then it would not load.
      - "--enable_model_warmup=false"
"""

# The image has neither curl nor wget. With its quotes, AVAILABLE is not found in UNAVAILABLE.
_HEALTH = (
    "exec 3<>/dev/tcp/127.0.0.1/8501"
    " && printf 'GET /v1/models/{name} HTTP/1.0\\\\r\\\\n\\\\r\\\\n' >&3"
    " && grep -q '\\\"AVAILABLE\\\"' <&3 || exit 1"
)


def texts(
    name: str, image: str, publish: str, served: Sequence[Version], labels: dict[str, int]
) -> dict[str, str]:
    """Content of each file by its name.

    Args:
        name: name of the model.
        image: image of TensorFlow Serving.
        publish: address of this machine on which the ports are open, one of IPv6 in brackets.
        served: versions that the servers hold.
        labels: version by label.
    """
    versions = "\n".join(f"        versions: {version.number}" for version in served)
    labelled = "\n".join(
        f'    version_labels {{ key: "{label}" value: {number} }}'
        for label, number in labels.items()
    )
    both = {"name": name, "image": image, "publish": publish, "health": _HEALTH.format(name=name)}
    compose = _COMPOSE.format(
        name=name,
        publish=publish,
        batched=" and ".join(batched(served)),
        held="1 version" if len(served) == 1 else f"{len(served)} versions",
        size=f"{sum(version.size for version in served) / 1e6:,.1f} MB",
        serving=_SERVER.format(flags="", grpc=8500, rest=8501, **both),
        batching=_SERVER.format(flags=_BATCHING_FLAGS, grpc=8510, rest=8511, **both),
    )
    return {
        "models.config": _MODELS.format(name=name, versions=versions, labels=labelled),
        "batching.config": _BATCHING,
        "monitoring.config": _MONITORING,
        "prometheus.yml": _PROMETHEUS,
        "compose.yaml": compose,
    }


def batched(served: Sequence[Version]) -> list[str]:
    """Signatures that a batching server answers rightly whatever it merges."""
    names = served[0].signatures
    return [n for n in names if all(merges(v.signatures[n]) == "yes" for v in served)]
