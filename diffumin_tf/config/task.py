"""The experiment configuration (`task_conf.json`), validated, with `--set` overrides."""

from collections.abc import Sequence
from typing import Annotated, Literal

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from diffumin_tf.config import reading as config_file
from diffumin_tf.config.strict import StrictModel, validate
from diffumin_tf.errors import ConfigError

# Keys of the released configs that steer the authors' private engine, or that this port derives.
IGNORED_KEYS = frozenset(
    "afo_docker_image_name batch_prefetch_buffer_size booster_mode cog_mode debug dist_save "
    "feature_num is_data_dispatch is_dist model_class_name model_export model_graph out_dim "
    "pass_size ps_num run_config se_type shut_ratio slow_worker_delay_ratio task use_pipeline "
    "user_name xla".split()
)

# Keys of earlier versions, with the value that says what is always done now. The configurations of
# their runs hold them.
REMOVED_KEYS = {
    "generated_input": "generated",
    "residual_denoiser": False,
    "stop_target_gradient": False,
}

Day = Annotated[int, Field(ge=19000101, le=29991231)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Strategy = Literal["one_device", "mirrored", "multi_worker_mirrored", "parameter_server"]


class _Section(StrictModel):
    # Not strict about types: the released configs write whole numbers as 1000.0. Their keys
    # model_name and model_path would earn a warning from pydantic before 2.10.
    model_config = pydantic.ConfigDict(strict=False, allow_inf_nan=False, protected_namespaces=())


class Features(_Section):
    """Columns that an input unit reads, by role.

    `behaviours` are history fields, whose embeddings side by side are one behaviour of width d;
    `dense` are columns of `dense_feature`, and the others of `cat_feature` or `multi_feature`.
    """

    user: tuple[str, ...] = ()
    candidate: Annotated[tuple[str, ...], Field(min_length=1)]
    context: tuple[str, ...] = ()
    behaviours: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()


class Embedding(_Section):
    """How ids become rows of the one embedding table.

    Attributes:
        kind: `hash` (row = id modulo rows) or `vocabulary` (a row for each id seen often).
        rows: rows of a hashed table, row 0 being the zero row.
        path: vocabulary file; None counts the ids of the training split when training starts.
        min_count: sightings after which an id is admitted to the vocabulary.
        initial_stddev: standard deviation of the table before training.
    """

    kind: Literal["hash", "vocabulary"] = "vocabulary"
    rows: Annotated[int, Field(ge=2, lt=2**31)] = 1_000_000
    path: str | None = None
    min_count: PositiveInt = 5
    initial_stddev: PositiveFloat = 0.05


class TaskConfig(_Section):
    """One experiment; the names of the released configs are kept.

    Days are `yyyymmdd`, inclusive; None leaves that end open. Times are in seconds.
    `sample_rate` is the share of negatives kept by down-sampling, undone in `rectified_pctr`.
    `top_p` is in percent of `seq_len`. `devices.with_defaults` fills what depends on the device.
    """

    model_name: str = "DiffuMIN"
    model_path: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1

    train_data_path: str | None = None
    train_data_start: Day | None = None
    train_data_end: Day | None = None
    valid_data_path: str | None = None
    valid_data_start: Day | None = None
    valid_data_end: Day | None = None
    test_data_path: str | None = None
    test_data_start: Day | None = None
    test_data_end: Day | None = None
    user_column: str | None = "user_id"
    shuffle_buffer_size: PositiveInt = 20_000
    samples_per_user: PositiveInt = 16
    sample_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0

    input_units: Annotated[tuple[str, ...], Field(min_length=1)]
    features: Features | None = None
    embedding: Embedding = Embedding()
    embed_dim: PositiveInt = 8
    seq_len: PositiveInt = 50
    length_buckets: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    subseq_len: NonNegativeInt = 20

    use_omie: bool = True
    use_dmig: bool = True
    use_cmic: bool = True
    use_orthogonality: bool = True
    use_routing: bool = True
    channel_num: PositiveInt = 4
    top_p: Annotated[float, Field(gt=0.0, le=100.0)] = 20.0
    channel_init: Literal["field_aligned", "random"] = "field_aligned"
    aggregation: Literal["mean", "sum", "softmax"] = "mean"

    n_layers: PositiveInt = 2
    num_heads: PositiveInt = 2
    dff_factor: PositiveInt = 3
    dropout_rate: Fraction = 0.0
    tower_dropout_rate: Fraction | None = None
    embedding_l2: NonNegativeFloat = 0.0
    label_smoothing: Fraction = 0.0

    beta_sche: Literal["linear", "exp", "cosine"] = "linear"
    beta_start: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-4
    beta_end: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.02
    timesteps: PositiveInt = 1000
    infer_timesteps: PositiveInt = 10
    start_timestep: NonNegativeInt = 50
    sampler_grad_steps: PositiveInt | None = 1
    prediction_type: Literal["sample", "epsilon"] = "sample"
    stop_interest_gradient: bool = True
    channel_share: bool = False
    temp: PositiveFloat = 0.05
    contrastive_negatives: Literal["global", "replica"] = "global"
    lamda1: NonNegativeFloat = 0.01
    lamda2: NonNegativeFloat = 0.001

    search_len: PositiveInt = 50
    search_field: str | None = None
    hash_bits: PositiveInt = 48
    hash_width: PositiveInt = 3

    deep_layers: tuple[PositiveInt, ...] = (1024, 512, 256)
    activation: Literal["dice", "prelu", "relu"] = "dice"
    batch_norm_momentum: Fraction = 0.99
    parallel_parts: PositiveInt | None = None
    jit_compile: bool | None = None
    deterministic: bool = True

    optimizer: Literal["adagrad_lazyadam"] = "adagrad_lazyadam"
    learning_rate: PositiveFloat = 0.05
    lazyAdam_learning_rate: PositiveFloat = 3e-4
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 0
    decay_steps: PositiveInt | None = None
    epoch: PositiveInt = 1
    batch_size: PositiveInt = 256
    evaluate_every_steps: NonNegativeInt = 0
    early_stopping_patience: NonNegativeInt = 0
    save_summary_steps: PositiveInt = 100
    save_checkpoints_secs: PositiveInt = 600
    save_checkpoints_steps: NonNegativeInt = 0
    keep_checkpoint_max: PositiveInt = 5
    pretrain_model_dir: str | None = None
    vars_to_warm_start: str | tuple[str, ...] = ".*"

    strategy: Strategy = "one_device"
    replicas: PositiveInt | None = None
    input_shards: PositiveInt = 1
    max_bad_records: NonNegativeInt = 0
    max_rollbacks: NonNegativeInt = 0

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "TaskConfig":
        bounds = [
            ("subseq_len", "seq_len", self.seq_len),
            ("start_timestep", "timesteps - 1 =", self.timesteps - 1),
            ("infer_timesteps", "start_timestep + 1 =", self.start_timestep + 1),
            ("beta_start", "beta_end", self.beta_end),
        ]
        for split in ("train", "valid", "test"):
            end = f"{split}_data_end"
            bounds.append((f"{split}_data_start", end, getattr(self, end)))
        for key, bound, most in bounds:
            value = getattr(self, key)
            if value is not None and most is not None and value > most:
                raise ValueError(f"{key} is {value!r} but may be at most {bound} {most!r}")
        buckets = list(self.length_buckets or [self.seq_len])
        if buckets != sorted(set(buckets)) or buckets[-1] != self.seq_len:
            raise ValueError(
                f"length_buckets is {buckets} but must ascend to seq_len {self.seq_len}"
            )
        schedule = f"learning_rate_schedule is {self.learning_rate_schedule!r}"
        if self.learning_rate_schedule != "constant" and self.decay_steps is None:
            raise ValueError(f"{schedule}: give decay_steps, after which the rates reach 0")
        if self.learning_rate_schedule != "constant" and self.pretrain_model_dir:
            raise ValueError(
                f"{schedule} but must be 'constant' with pretrain_model_dir, whose number of "
                "updates is taken over"
            )
        return self


def load(path: str, overrides: Sequence[str] = ()) -> tuple[TaskConfig, list[str]]:
    """Reads `task_conf.json`, what it `extends`, and applies overrides.

    Args:
        path: the file, or the folder of the experiment that holds it.
        overrides: `key=value` texts; `embedding.rows=1000` reaches into a section.

    Returns:
        The configuration, and the keys of the private engine that were ignored.

    Raises:
        ConfigError: names file, key, value and what would be right.
    """
    content, (path, *extended) = config_file.read(path, overrides)
    ignored = sorted(IGNORED_KEYS & content.keys())
    content = {k: v for k, v in content.items() if k not in IGNORED_KEYS}
    if "n_heads" in content:  # the Ele.me config of the release says n_heads
        if "num_heads" in content:
            raise ConfigError(f"{path}: num_heads and n_heads are one setting; keep num_heads")
        content["num_heads"] = content.pop("n_heads")
    for key, value in REMOVED_KEYS.items():
        if content.pop(key, value) != value:
            raise ConfigError(f"{path}: {key} was removed and is always {value!r}; leave it out")
    source = " extends ".join([path, *extended])
    source = f"{source} with {' '.join(overrides)}" if overrides else source
    return validate(TaskConfig, content, source), ignored
