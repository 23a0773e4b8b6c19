"""The tables of the trajectory lab: curves, views of them, frozen pixels, what a model predicted, what was told."""

from __future__ import annotations

from formats.columns import Column, Table

_SPLITS = ("train", "val", "test", "grid")
_FAMILIES = ("linear", "circular", "helical", "parabolic")

TRAJECTORIES = Table(
    "choreo.trajectories/1",
    "One table of a trajectory set: curves, views of one split, or frozen pixels.",
    (
        Column("id", "str", doc="what the table is: curves, views-train, pixels-test-0..."),
        Column("role", "str", doc="what it holds", choices=("curves", "views", "pixels")),
        Column("split", "str", doc="whose", choices=(*_SPLITS, "all")),
        Column("path", "str", doc="table, relative to the manifest"),
        Column("sha256", "str", doc="content hash of the file"),
        Column("rows", "int64", lo=0, doc="rows"),
        Column("frames", "int64", lo=1, doc="frames shown"),
        Column("size", "int64", "px", 1, doc="pixels of a side"),
        Column("size_cue", "str", doc="whether nearer dots are larger", choices=("perspective", "constant")),
        Column("seed", "int64", lo=0, doc="seed of the set"),
        Column("recipe", "str", doc="version of the drawing rules: another one draws other pixels"),
        Column("synthetic", "bool", doc="always true"),
    ),
)

CURVES = Table(
    "choreo.curves/1",
    "One row per base trajectory: its family and numbers, its 20 points, its equation and its sentence.",
    (
        Column("curve_id", "int64", lo=0, doc="row of this table"),
        Column("split", "str", doc="split of the curve and of every view of it", choices=_SPLITS),
        Column("draw_seed", "int64", lo=0, doc="seed it was drawn with: test curves have another one"),
        Column("draw_row", "int64", lo=0, doc="row of that draw; row k is of family k mod 4"),
        Column("family", "str", doc="its family", choices=_FAMILIES),
        Column(
            "parameters", "float64[7]", doc="length, radius, omega, phase, pitch, height, apex; 0 where it has none"
        ),
        Column("rotation", "float64[9]", doc="its axes e1, e2, e3 in the world, row by row"),
        Column("centre", "float64[3]", doc="where it was moved to, world units"),
        Column("points", "float32[60]", doc="20 points x, y, z; the last four are to be forecast"),
        Column("equation", "str", doc="x, y and z as functions of t in 0..1"),
        Column("description", "str", doc="the same in one sentence"),
    ),
)

VIEWS = Table(
    "choreo.views/1",
    "One row per video: which curve, and camera, noise, phase, style and colour it is drawn with.",
    (
        Column("curve_id", "int64", lo=0, doc="curve"),
        Column("noise_key", "int64", lo=0, doc="row of the noise stream"),
        Column("sigma", "float64", "1", 0, doc="standard deviation of the shown points, world units"),
        Column("azimuth", "float64", "rad", doc="of the camera"),
        Column("elevation", "float64", "rad", doc="of the camera"),
        Column("phase", "int32", lo=0, hi=2, doc="start: turned by thirds (circular, helical), or t + 0, -.08, .08"),
        Column("style", "str", doc="how it is drawn", choices=("dot", "trail")),
        Column("red", "int32", lo=0, hi=255, doc="grey level of the channel at full coverage"),
        Column("green", "int32", lo=0, hi=255, doc="grey level of the channel at full coverage"),
        Column("blue", "int32", lo=0, hi=255, doc="grey level of the channel at full coverage"),
    ),
)

PIXELS = Table(
    "choreo.pixels/1",
    "One row per video of a frozen test set, exactly as it was drawn.",
    (
        Column("row", "int64", lo=0, doc="row of the views"),
        Column("video", "list<uint8>", lo=0, hi=255, doc="frames x 3 x size x size grey levels"),
    ),
)

PREDICTIONS = Table(
    "choreo.predictions/1",
    "One row per video of a test set: what a model said, in the orientation of the camera.",
    (
        Column("row", "int64", lo=0, doc="row of the views that were judged"),
        Column("curve_id", "int64", lo=0, doc="curve: intervals are clustered on it"),
        Column("probabilities", "float32[4]", doc="of linear, circular, helical, parabolic"),
        Column("future", "float32[12]", doc="the next four points x, y, z, world units"),
        Column("shown", "list<float32>", nullable=True, doc="the 16 shown points, where the model tells them"),
    ),
)

DESCRIPTIONS = Table(
    "choreo.descriptions/1",
    "One row per trajectory: its equation and sentence as told, by which engine, and how they were judged.",
    (
        Column("row", "int64", lo=0, doc="row of the views"),
        Column("curve_id", "int64", lo=0, doc="curve"),
        Column("engine", "str", doc="who told it in the end: fit, template or llm"),
        Column("model", "str", nullable=True, doc="the language model that was asked, by its name on its server"),
        Column("prompt", "str", nullable=True, doc="of its instructions and schema: sha256, the first 12 digits"),
        Column("family", "str", doc="family as told", choices=(*_FAMILIES, "none")),
        Column("fit_family", "str", doc="family that the curve fit chooses by itself", choices=_FAMILIES),
        Column("branch_family", "str", nullable=True, doc="family that the branch named", choices=_FAMILIES),
        Column("equation", "str", doc="equation as told"),
        Column("description", "str", doc="sentence as told"),
        Column("asked", "int32", lo=0, doc="turns with the language model: 2 after a repair"),
        Column("fallback", "str", nullable=True, doc="why the fit speaks in place of the model"),
        Column("parsed", "bool", doc="the equation is on the allow-list"),
        Column("form", "bool", doc="its structure is the family's"),
        Column("numeric", "bool", doc="its points lie within the tolerance at 64 times in 0..1.25"),
        Column("error", "float64", "1", 0, nullable=True, doc="largest distance over the diagonal; null unparsed"),
        Column("within_5", "bool", doc="every parameter within 5 %"),
        Column("within_10", "bool", doc="every parameter within 10 %"),
        Column("within_3se", "bool", nullable=True, doc="every parameter within 3 standard errors, where given"),
        Column("wrong_slots", "list<str>", doc="facts of the sentence that do not agree; empty when all do"),
    ),
)  # fmt: skip
