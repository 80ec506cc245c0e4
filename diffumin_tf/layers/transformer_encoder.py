"""The short-term encoder: transformer blocks over the most recent behaviours."""

from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.attention import TransformerBlock


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class TransformerEncoder(tf.keras.layers.Layer):
    """A stack of post-norm transformer blocks over a short sequence.

    ```
    h = LayerNorm(h + Attention(h, h)),   h = LayerNorm(h + FeedForward(h))      (n_layers times)
    ```

    Padding tokens are masked as keys, so they never change the output of another token; what a
    padding token itself returns means nothing.

    Args:
        n_layers: int. Number of blocks.
        num_heads: int. Attention heads; it divides d.
        dff_factor: int. Hidden width of the feed-forward part, in multiples of d.
        dropout_rate: float in [0, 1). Dropout before every residual.
        seed: int. Seed of dropout.

    Call arguments:
        tokens: `[B, N, d]`, float32.
        mask: `[B, N]`, bool, or None. Which tokens are valid; None means all.
        training: bool. Whether to apply dropout.
        last_only: bool. Whether only the last token is wanted, without the work for the others.

    Returns:
        `[B, N, d]`, float32, or `[B, 1, d]` if `last_only`.

    Raises:
        ValueError: if an argument is out of range or an input has the wrong shape.

    Example:

    ```python
    encoder = TransformerEncoder(n_layers=2, num_heads=2, dff_factor=4)
    encoded = encoder(tf.random.normal([4, 21, 24]))  # [4, 21, 24]
    ```

    Source: the DiffuMIN paper (RecSys '25), short-term interest.
    """

    def __init__(
        self,
        n_layers: int,
        num_heads: int,
        dff_factor: int,
        dropout_rate: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.n_layers = checks.positive_int("n_layers", n_layers)
        self.num_heads = checks.positive_int("num_heads", num_heads)
        self.dff_factor = checks.positive_int("dff_factor", dff_factor)
        self.dropout_rate = checks.rate("dropout_rate", dropout_rate)
        self.seed = checks.integer("seed", seed)
        self.blocks = [
            TransformerBlock(
                self.num_heads,
                self.dff_factor,
                self.dropout_rate,
                seed=self.seed + layer,
                name=f"block_{layer}",
            )
            for layer in range(self.n_layers)
        ]

    def build(self, input_shape: tf.TensorShape) -> None:
        (self.width,) = checks.static_sizes("tokens", input_shape, "[B, N, d]", known=1)
        for block in self.blocks:
            block.build([None, None, self.width])
        super().build(input_shape)

    def call(
        self,
        tokens: tf.Tensor,
        mask: tf.Tensor | None = None,
        training: bool | None = None,
        last_only: bool = False,
    ) -> tf.Tensor:
        tokens = checks.tensor("tokens", tokens, "[B, N, d]", [None, None, self.width])
        if mask is not None:
            mask = checks.tensor("mask", mask, "[B, N]", tokens.shape[:2], tf.bool)
        *blocks, final = self.blocks
        for block in blocks:
            tokens = block(tokens, tokens, key_mask=mask, training=training)
        query = tokens[:, -1:] if last_only else tokens
        return final(query, tokens, key_mask=mask, training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "n_layers": self.n_layers,
            "num_heads": self.num_heads,
            "dff_factor": self.dff_factor,
            "dropout_rate": self.dropout_rate,
            "seed": self.seed,
        }
