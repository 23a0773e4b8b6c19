"""Kept generated clips: what is written comes back, and what was cut, changed or does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest

from formats import generated_npz as kept
from formats.errors import FormatError

CHANNELS = {"channels": np.arange(2 * 3 * 25, dtype=np.float32).reshape(2, 3, 25)}


def test_what_is_written_comes_back_and_every_byte_counts() -> None:
    data = kept.encode({**CHANNELS, "kinetic": np.zeros((2, 66))}, {"jerk": np.array([1.0, np.nan])}, {"nfe": 4})
    arrays, figures, told = kept.decode(data)
    assert (arrays["channels"] == CHANNELS["channels"]).all() and arrays["kinetic"].shape == (2, 66)
    assert figures["jerk"][0] == 1 and np.isnan(figures["jerk"][1]) and told == {"nfe": 4}
    assert kept.encode(arrays, figures, told) == data
    for broken in (data[:-9], data[:100] + bytes([data[100] ^ 1]) + data[101:], b""):
        with pytest.raises(FormatError):
            kept.decode(broken)


def test_clips_that_do_not_fit_are_refused() -> None:
    with pytest.raises(FormatError, match="no channels"):
        kept.encode({"channels": np.zeros((2, 3, 24), np.float32)}, {}, {})
    with pytest.raises(FormatError, match="3 rows of 2 clips"):
        kept.encode(CHANNELS, {"jerk": np.zeros(3)}, {})
