"""Harm done to record files, as disks and killed writers do it."""

import os

import numpy as np


def offsets(serialised):
    """Where each record begins in a plain file of them, and where the file ends."""
    return np.r_[0, np.cumsum([16 + len(data) for data in serialised])].tolist()


def flip(file, position):
    """Changes one bit of a file."""
    with open(file, "r+b") as opened:
        opened.seek(position)
        byte = opened.read(1)[0]
        opened.seek(position)
        opened.write(bytes([byte ^ 1]))


def flip_data(file, serialised, *numbers):
    """Changes the data of some records of a plain file."""
    for number in numbers:
        flip(file, offsets(serialised)[number] + 12 + len(serialised[number]) // 2)


def flip_length(file, serialised, number):
    """Changes the length of a record of a plain file."""
    flip(file, offsets(serialised)[number])


def tear(file, size):
    """Cuts off a file's last bytes."""
    os.truncate(file, os.path.getsize(file) - size)
