import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import DiffusionMultiInterestGenerator as Generator
from diffumin_tf.layers import RandomStream
from tests.layers import oracles
from tests.layers.helpers import (
    assert_batch_mates_never_matter,
    assert_finite,
    assert_same,
    assert_saving_keeps_outputs,
    copy_of,
    denoiser_weights,
    normal,
    random_ops,
    randomise,
)

LIVE = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]], bool)
SMALL = {"timesteps": 40, "infer_timesteps": 3, "start_timestep": 10, "dff_factor": 2}
TINY = {**SMALL, "infer_timesteps": 1, "n_layers": 1}


def inputs(width=6):
    interests = normal(0, 4, 3, width) * LIVE[:, :, None]
    return interests, normal(1, 4, 3, width), LIVE


def linear_estimate(x, alpha, width=6):
    return np.sqrt(alpha) / width / (alpha / width + 1 - alpha) * x


@pytest.mark.parametrize(
    ("prediction_type", "residual"), [("sample", False), ("epsilon", False), ("sample", True)]
)
@pytest.mark.parametrize(("steps", "timesteps"), [(1, [10]), (3, [10, 5, 0])])
def test_sampling_equals_the_equations(prediction_type, residual, steps, timesteps):
    layer = Generator(
        **{**SMALL, "infer_timesteps": steps}, prediction_type=prediction_type, residual=residual
    )
    interests, channels, live = inputs()
    layer(interests, channels, live)
    randomise(layer, scale=0.15)
    actual = layer(interests, channels, live)
    weights = denoiser_weights(layer.denoiser)
    alphas = oracles.linear_alphas_cumprod(40, 1e-4, 0.02)
    for b in range(4):
        x0 = np.array([oracles.unit(r) for r in interests[b]])

        def predict_x0(x, t, x0=x0, b=b):
            out = oracles.denoise(x, x0, channels[b], [t] * 3, live[b], 2, weights)
            if residual:
                correction = layer.correction.numpy() * out / np.sqrt(6)
                return linear_estimate(x, alphas[t]) + correction
            if prediction_type == "sample":
                return out / np.sqrt(6)
            return (x - np.sqrt(1 - alphas[t]) * out) / np.sqrt(alphas[t])

        noise = layer.sampling_noise.numpy()[0]
        expected = oracles.sample(x0, noise, timesteps, alphas, predict_x0) * live[b][:, None]
        np.testing.assert_allclose(actual[b], expected, atol=2e-4)


@pytest.mark.parametrize(
    ("prediction_type", "residual"), [("sample", False), ("epsilon", False), ("sample", True)]
)
def test_loss_equals_the_equations(prediction_type, residual):
    layer = Generator(
        **SMALL, prediction_type=prediction_type, residual=residual, loss_weight=0.5, seed=3
    )
    interests, channels, live = inputs()
    layer(interests, channels, live)
    randomise(layer, scale=0.15)
    draws = RandomStream(3)
    layer(interests, channels, live, training=True)
    timesteps = draws.integers([4, 3], 40).numpy()
    noise = draws.normal([4, 3, 6]).numpy()
    alphas = oracles.linear_alphas_cumprod(40, 1e-4, 0.02)
    weights, errors = denoiser_weights(layer.denoiser), []
    for b in range(4):
        x0 = np.array([oracles.unit(r) for r in interests[b]])
        kept = np.array([[np.sqrt(alphas[t])] for t in timesteps[b]])
        added = np.array([[np.sqrt(1 - alphas[t])] for t in timesteps[b]])
        noisy = kept * x0 + added * noise[b]
        out = oracles.denoise(noisy, x0, channels[b], timesteps[b], live[b], 2, weights)
        target = x0 if prediction_type == "sample" else noise[b]
        out = out / np.sqrt(6) if prediction_type == "sample" else out
        if residual:
            alpha = np.array([[alphas[t]] for t in timesteps[b]])
            out = linear_estimate(noisy, alpha) + layer.correction.numpy() * out
        errors += [np.sum((out[i] - target[i]) ** 2) for i in range(3) if live[b, i]]
    assert float(layer.losses[0]) == pytest.approx(0.5 * np.mean(errors), rel=1e-4)
    assert float(layer.diffusion_loss.result()) == pytest.approx(np.mean(errors), rel=1e-4)


def test_loss_and_metric_only_in_training():
    layer = Generator(**SMALL)
    layer(*inputs())
    assert layer.losses == []
    assert float(layer.diffusion_loss.count) == 0
    layer(*inputs(), training=True)
    assert len(layer.losses) == 1
    assert [metric.name for metric in layer.metrics] == ["diffusion_loss"]
    assert float(layer.diffusion_loss.result()) > 0


def test_training_draws_anew_and_inference_never():
    layer = Generator(**TINY)
    first, second = (layer(*inputs(), training=True).numpy() for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(layer(*inputs()), layer(*inputs()))
    assert random_ops(lambda: layer(*inputs(), training=False)) == set()
    assert random_ops(lambda: layer(*inputs(), training=True)) != set()


def test_batch_mates_never_change_an_output():
    assert_batch_mates_never_matter(Generator(**SMALL), inputs())


def test_dead_channels_generate_zero_and_change_nothing():
    layer = Generator(**SMALL)
    interests, channels, live = inputs()
    expected = layer(interests, channels, live).numpy()
    np.testing.assert_array_equal(expected[~LIVE], 0)
    assert (expected[LIVE] != 0).all()
    junk = np.where(LIVE[:, :, None], interests, normal(5, 4, 3, 6))
    np.testing.assert_allclose(layer(junk, channels, live), expected, atol=1e-6)


def test_no_live_means_all_live():
    layer = Generator(**SMALL)
    interests, channels, _ = inputs()
    assert_same(layer(interests, channels), layer(interests, channels, np.ones([4, 3], bool)))


@pytest.mark.parametrize("prediction_type", ["sample", "epsilon"])
def test_no_live_channel_gives_loss_zero_and_finite_gradients(prediction_type):
    layer = Generator(**SMALL, prediction_type=prediction_type)
    interests, channels = tf.zeros([2, 3, 6]), tf.zeros([2, 3, 6])
    with tf.GradientTape() as tape:
        tape.watch([interests, channels])
        generated = layer(interests, channels, tf.zeros([2, 3], tf.bool), training=True)
        loss = layer.losses[0] + tf.reduce_sum(generated)
    assert float(layer.losses[0]) == 0
    gradients = tape.gradient(
        loss,
        [interests, channels, *layer.trainable_variables],
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    assert_finite(gradients)


def test_target_gradient_can_be_stopped():
    interests, channels, live = inputs()
    interests = tf.constant(interests)
    gradients = []
    for stop in (False, True):
        layer = Generator(**SMALL, stop_target_gradient=stop, seed=1)
        layer(interests, channels, live)
        randomise(layer)
        with tf.GradientTape() as tape:
            tape.watch(interests)
            layer(interests, channels, live, training=True)
            loss = layer.losses[0]
        gradients.append(tape.gradient(loss, interests).numpy())
    assert np.isfinite(gradients).all()
    # Both layers have the same weights and draws, so only the target can tell them apart.
    assert np.abs(gradients[0] - gradients[1]).max() > 1e-3


def test_a_residual_denoiser_begins_as_the_linear_estimate():
    layer = Generator(timesteps=1000, infer_timesteps=1, start_timestep=2, residual=True)
    interests, channels, live = inputs()
    generated = layer(interests, channels, live).numpy()
    alpha = oracles.linear_alphas_cumprod(1000, 1e-4, 0.02)[2]
    for b in range(4):
        x0 = np.array([oracles.unit(r) for r in interests[b]])
        noisy = np.sqrt(alpha) * x0 + np.sqrt(1 - alpha) * layer.sampling_noise.numpy()[0]
        expected = linear_estimate(noisy, alpha) * live[b][:, None]
        np.testing.assert_allclose(generated[b], expected, atol=1e-5)
    layer.correction.assign(normal(3, 6))
    moved = layer(interests, channels, live)
    assert_same(copy_of(layer, interests, channels, live)(interests, channels, live), moved)


def test_training_lowers_the_loss():
    layer = Generator(**TINY, loss_weight=1.0)
    optimizer = tf.keras.optimizers.Adam(0.01)

    @tf.function
    def train_step():
        with tf.GradientTape() as tape:
            layer(*inputs(), training=True)
            loss = layer.losses[0]
        variables = layer.denoiser.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    losses = [float(train_step()) for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:3])


def test_default_start_is_the_first_tenth_and_leaves_room_for_the_steps():
    assert Generator(timesteps=1000, infer_timesteps=10).sampling_timesteps[0] == 99
    assert Generator(timesteps=20, infer_timesteps=10).sampling_timesteps.tolist() == [
        *range(9, -1, -1)
    ]


def test_survives_config_and_saving(tmp_path):
    tensors = [tf.constant(x) for x in inputs()]
    layer = Generator(
        50,
        2,
        20,
        "cosine",
        1e-3,
        0.03,
        1,
        3,
        2,
        "epsilon",
        0.2,
        0.1,
        True,
        seed=9,
        name="g",
    )
    layer(*tensors, training=True)
    layer.sampling_noise.assign_add(tf.ones([1, 3, 6]))
    expected = layer(*tensors)
    assert_same(copy_of(layer, *tensors)(*tensors), expected)
    loaded = assert_saving_keeps_outputs(layer, tensors, tmp_path)
    assert_same(loaded(tensors), expected)
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    named = {f"input_{place}": tensor for place, tensor in enumerate(tensors)}
    assert_same(served(**named), expected)


def test_a_checkpoint_resumes_the_random_numbers(tmp_path):
    layer = Generator(**SMALL, dropout_rate=0.3, seed=1)
    layer(*inputs(), training=True)
    path = tf.train.Checkpoint(layer=layer).write(str(tmp_path / "checkpoint"))
    expected = layer(*inputs(), training=True)
    resumed = Generator(**SMALL, dropout_rate=0.3, seed=1)
    resumed(*inputs())
    tf.train.Checkpoint(layer=resumed).read(path).assert_consumed()
    assert_same(resumed(*inputs(), training=True), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timesteps": 10.5}, "`timesteps` .* received 10.5"),
        ({"infer_timesteps": 0}, "`infer_timesteps` .* received 0"),
        ({"start_timestep": 1000}, "`start_timestep` .* received 1000"),
        ({"start_timestep": 5}, "`steps` must be at most start_timestep .* received 10"),
        ({"beta_sche": "sqrt"}, "`beta_sche` .* received 'sqrt'"),
        ({"beta_start": 0}, "`beta_start` .* received 0"),
        ({"n_layers": 0}, "`n_layers` .* received 0"),
        ({"prediction_type": "velocity"}, "`prediction_type` .* received 'velocity'"),
        ({"prediction_type": "epsilon", "residual": True}, "`residual` .* received 'epsilon'"),
        ({"loss_weight": -1}, "`loss_weight` .* received -1"),
        ({"seed": None}, "`seed` .* received None"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Generator(**arguments)


@pytest.mark.parametrize(
    ("place", "shape", "message"),
    [
        (0, [4, 6], r"`interests` .*\[B, C, d\].* \(4, 6\)"),
        (1, [4, 3, 5], r"`channels` .* received shape \(4, 3, 5\)"),
        (2, [4, 2], r"`live` .* received shape \(4, 2\)"),
    ],
)
def test_refuses_bad_shapes(place, shape, message):
    tensors = list(inputs())
    tensors[place] = np.zeros(shape, tensors[place].dtype)
    with pytest.raises(ValueError, match=message):
        Generator(**SMALL)(*tensors)
