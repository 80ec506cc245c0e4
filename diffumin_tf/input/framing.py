"""Record files by hand: what of a damaged one can still be read."""

import contextlib
import os
import tempfile
import zlib
from collections.abc import Iterator

import tensorflow as tf

# A record on disk: its length (uint64) and the masked crc32c of that, the data and theirs.
_HEADER, _FRAME = 12, 16
_PIECE = 64 * 2**20
_CHUNK = 2**20
_BATCH = 256
_GZIP_STREAM = 31  # zlib's `wbits` for a gzip header and the largest window


def frames(file: str) -> Iterator[bytes | str]:
    """The data of a file's records in order; in the place of a damaged one, what is wrong.

    Reading goes on behind a record whose data are damaged. It ends where a length is damaged, for
    then nothing tells where the next record begins, and where a zipped stream is.

    Args:
        file: a plain file, or a zipped one whose name ends in `.gz`.
    """
    if not file.endswith(".gz"):
        yield from _plain_frames(file)
        return
    with tempfile.TemporaryDirectory() as folder:
        inflated = os.path.join(folder, "inflated")
        whole = _inflate(file, inflated)
        for frame in _plain_frames(inflated):
            if isinstance(frame, str):
                whole = False
                break
            yield frame
        if not whole:
            yield "the zipped data are damaged or torn, and what follows is lost"


def _plain_frames(file: str) -> Iterator[bytes | str]:
    left, held = tf.io.gfile.stat(file).length, b""
    with tempfile.TemporaryDirectory() as folder, tf.io.gfile.GFile(file, "rb") as source:
        while piece := source.read(_PIECE):
            held, used = held + piece, 0
            while True:
                for data in _sound_front(held[used:], folder):
                    yield data
                    used += _FRAME + len(data)
                header = held[used : used + _HEADER]
                if len(header) < _HEADER:
                    break
                if not _is_sound(header):
                    yield (
                        "the length of the next one is damaged, and with it the "
                        f"{left - used:,} bytes to the end of the file are lost"
                    )
                    return
                size = _FRAME + int.from_bytes(header[:8], "little")
                if used + size > len(held):
                    break
                yield "the data of the next one differ from their checksum"
                used += size
            held, left = held[used:], left - used
    if held:
        yield "the file ends within the next one"


def _sound_front(content: bytes, folder: str) -> Iterator[bytes]:
    """Data of the records at the front, up to one that is not whole or fails its checksums."""
    piece = os.path.join(folder, "piece")
    with open(piece, "wb") as file:
        file.write(content)
    # The reader leaves a file at its first failure, which alone is ignored here.
    sound = tf.data.TFRecordDataset(piece).ignore_errors().batch(_BATCH)
    for batch in sound.as_numpy_iterator():
        yield from batch.tolist()


def _is_sound(header: bytes) -> bool:
    """Whether a length and its checksum agree."""
    # CRC-32C, bit by bit: polynomial 0x1EDC6F41 with its bits reversed.
    crc = 0xFFFFFFFF
    for byte in header[:8]:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    # Files hold it rotated and shifted, as "masked" in TensorFlow's crc32c.h.
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return masked == int.from_bytes(header[8:], "little")


def _inflate(file: str, target: str) -> bool:
    """Unzips a file to the byte where its stream is damaged; says whether it is whole."""
    stream = zlib.decompressobj(_GZIP_STREAM)
    with tf.io.gfile.GFile(file, "rb") as source, open(target, "wb") as sink:
        while chunk := source.read(_CHUNK):
            while chunk:
                if stream.eof:  # zipped files may be joined end to end
                    stream = zlib.decompressobj(_GZIP_STREAM)
                before = stream.copy()
                try:
                    sink.write(stream.decompress(chunk))
                except zlib.error:
                    with contextlib.suppress(zlib.error):
                        for byte in chunk:
                            sink.write(before.decompress(bytes([byte])))
                    return False
                chunk = stream.unused_data
    return stream.eof
