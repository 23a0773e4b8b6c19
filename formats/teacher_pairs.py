"""Stored samples of a teacher: what it made of which noise under which conditions, in Parquet shards."""

from __future__ import annotations

from formats.columns import Column, Table

TEACHER_PAIRS = Table(
    "choreo.teacher_pairs/1",
    "What a teacher made of noise under given conditions, for a student to learn: one shard of `choreo distill`.",
    (
        Column("pair", "int64", lo=0, doc="number of the pair; decides its noise, with the seed of the run"),
        Column("window", "int64", lo=0, doc="training window that conditions it: music, and the frames that are given"),
        Column("epoch", "int64", lo=0, doc="pass over the windows, which decides whether the window is mirrored"),
        Column("task", "str", doc="what is asked", choices=("GEN", "EDIT", "INBETWEEN", "STYLE", "PREDICT",
               "COMPLETE")),
        Column("heard", "bool", doc="the music is heard"),
        Column("guidance", "float32", "1", 0, doc="weight of the music that is built into `data`"),
        Column("mask", "list<bool>", doc="T x 7: the channel group of a frame is given"),
        Column("noise", "list<float32>", doc="T x 25 standard normal"),
        Column("data", "list<float32>", doc="T x 25 normalised channels that the teacher made of it"),
    ),
)  # fmt: skip
