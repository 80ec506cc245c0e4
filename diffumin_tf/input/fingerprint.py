"""Ids: a 63-bit fingerprint of an id space and a value, 0 for a missing value."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_BUCKETS = 2**63 - 1


def fingerprint(space: str, values: Sequence[str] | np.ndarray) -> np.ndarray:
    """Fingerprints of texts within one id space: `farmhash64(space + "=" + text) mod (2⁶³ − 1)`.

    The text itself counts: `"7"` and `"7.0"` are two ids. Equal on every platform.

    Args:
        space: name of the id space; fields of one space share ids.
        values: texts of any shape; the empty text is a missing value.

    Returns:
        int64 of that shape, in [0, 2⁶³ − 1); 0 exactly where the text is empty.
    """
    texts = np.asarray(values, dtype=object)
    if not texts.size:
        return np.zeros(texts.shape, np.int64)
    flat = tf.constant([str(text) for text in texts.ravel()], tf.string)
    return text_ids(space, flat).numpy().reshape(texts.shape)


def text_ids(space: str, texts: tf.Tensor) -> tf.Tensor:
    """The same inside a graph: strings of any shape → int64 of that shape."""
    hashed = tf.strings.to_hash_bucket_fast(tf.strings.join([f"{space}=", texts]), _BUCKETS)
    # A real value must never be mistaken for a missing one.
    return tf.where(tf.equal(texts, ""), tf.constant(0, tf.int64), tf.maximum(hashed, 1))
