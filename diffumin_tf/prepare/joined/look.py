"""What the first samples of joined files say about what an engine made of a log."""

from collections.abc import Iterator, Sequence

import numpy as np

from diffumin_tf.errors import DataError
from diffumin_tf.input.fingerprint import fingerprint
from diffumin_tf.input.raw_text import MISSING_WORDS
from diffumin_tf.input.records import spans
from diffumin_tf.prepare.files import SourceFile
from diffumin_tf.prepare.joined.piece import Piece
from diffumin_tf.prepare.joined.rows import first_piece, local_days
from diffumin_tf.prepare.spec.joined import JoinedSpec

_FEW = 20  # samples, so few say nothing
_LOOKED_AT = 20_000  # samples of a file
_OTHER_DAYS = 0.1  # share of samples whose day is not that of their time


def look(spec: JoinedSpec, files: Sequence[SourceFile]) -> list[str]:
    """Warnings about the first samples of the first and the last file.

    Raises:
        DataError: clicked candidates stand in their own history, where `newer` is wrong.
    """
    warnings = []
    for file in {files[0].name: files[0], files[-1].name: files[-1]}.values():
        if (piece := first_piece(spec, file)) is not None:
            warnings += [f"{file.name}: {line}" for line in _lines(spec, file, piece)]
    return warnings


def _lines(spec: JoinedSpec, file: SourceFile, piece: Piece) -> Iterator[str]:
    user, seconds = piece.samples.auxiliary_info.T
    words = (w for word in MISSING_WORDS for w in {word, word.upper(), word.capitalize()} if w)
    named = np.isin(user, fingerprint(spec.space(spec.user), list(words)))
    if named.any():
        yield (
            f"{spec.user!r} of {named.mean():.1%} of the first samples is a word for a missing "
            'user, such as null; "missing" takes such words'
        )
    others = piece.days != local_days(seconds * 1000, spec.utc_offset_hours)
    if others.mean() > _OTHER_DAYS:
        yield (
            f"{spec.day!r} of {others.mean():.0%} of the first samples is another day than that "
            f'of {spec.time!r}: is "utc_offset_hours" {spec.utc_offset_hours:g} right?'
        )
    clicked, own = piece.samples.label[:_LOOKED_AT] == 1, _in_own_history(spec, piece)
    if own.sum() < _FEW or not clicked.any():
        return
    shares = own[clicked].mean(), own[~clicked].mean() if (~clicked).any() else 0.0
    line = (
        f"the candidate stands in its own history in {shares[0]:.0%} of the clicked "
        f"impressions and in {shares[1]:.0%} of the others"
    )
    if shares[0] - shares[1] >= 0.3 and shares[0] >= 2 * shares[1]:
        if "own_item" not in spec.allow:
            raise DataError(
                f"{file.path}: {line}: does the click itself lie in the past, by a wrong 'newer'? "
                'If it is right, "allow": ["own_item"] insists'
            )
        yield line


def _in_own_history(spec: JoinedSpec, piece: Piece) -> np.ndarray:
    """Whether the candidate's most telling id is in what the sample sees, bool [n]."""
    fields = [n for n in spec.behaviour if n in spec.cat_feature]
    candidates = {n: piece.samples.cat_feature[:, spec.cat_feature.index(n)] for n in fields}
    if not fields:
        return np.zeros(len(piece.days[:_LOOKED_AT]), bool)
    field = max(fields, key=lambda n: len(np.unique(candidates[n])))
    ids, start, stop = spans(piece.samples.sequences[f"{field}_list"])
    seen = zip(candidates[field][:_LOOKED_AT], start, stop, strict=False)
    return np.array([item != 0 and (ids[a:b] == item).any() for item, a, b in seen])
