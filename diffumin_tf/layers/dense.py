"""A dense layer that is one product of matrices, whatever the rank of its input."""

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class Dense(tf.keras.layers.Dense):
    """`tf.keras.layers.Dense` on `[..., d]`.

    The library computes the shape of the product by operations that run on a GPU where there is
    one, and its host waits for the result; this takes few operations, none of which waits.

    Call arguments:
        inputs: `[..., d]`, float32.

    Returns:
        `[..., units]`, float32.

    Example:

    ```python
    vectors = Dense(4, "relu")(tf.random.normal([2, 7, 3]))  # [2, 7, 4]
    ```
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        *outer, width = inputs.shape
        if len(outer) < 2:
            return super().call(inputs)
        flat = super().call(tf.reshape(inputs, [-1, width]))
        if outer.count(None) <= 1:
            return tf.reshape(flat, [*(-1 if n is None else n for n in outer), self.units])
        shape = tf.concat([tf.shape(inputs)[:-1], [self.units]], axis=0)
        return tf.ensure_shape(tf.reshape(flat, shape), [*outer, self.units])
