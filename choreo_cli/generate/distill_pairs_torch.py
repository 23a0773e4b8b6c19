"""The teacher's samples in shards on disk: each is whole or not there, and is made again when it is not as it was."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from choreo_cli.errors import StorageError
from choreo_cli.generate.config import CHANNELS, GROUPS, TASKS
from choreo_cli.generate.distill_torch import Told, tell
from choreo_cli.generate.dit_torch import cover
from choreo_cli.generate.sampling import noise
from choreo_cli.generate.tasks import draw_tasks
from choreo_cli.training.accelerator import arithmetic, assemble
from choreo_cli.training.order import mix, permuted
from formats.errors import FormatError
from formats.tables import read_metadata, read_table, write_table
from formats.teacher_pairs import TEACHER_PAIRS
from formats.wholeness import verify

if TYPE_CHECKING:
    from choreo_cli.generate.distill_recipe_torch import DistillRecipe

I64 = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]

FOLDER = "pairs"
SHARD = 256  # pairs; 3 MB and some seconds of a small teacher
KEY = "choreo.teacher_pairs.of"
NOISE = 1 << 20  # the noise of pairs is none that a sampler draws
DRAWS = 0x70616972
POLL_S = 0.2
SPARE = 1.1  # of the space that the shards need


@dataclass(slots=True)
class PairStore:
    """Pairs of a run; see `distill_recipe_torch.Material`.

    Args:
        recipe: Teacher, windows and settings that decide them.
        count: How many.
        identity: sha256 over everything that decides them.
    """

    recipe: DistillRecipe
    count: int
    identity: str
    _pairs: Arrays = field(default_factory=dict)
    _sha: dict[str, str] = field(default_factory=dict)

    @property
    def shards(self) -> int:
        return -(-self.count // SHARD)

    def prepare(
        self, folder: Path, device: str, stop: Callable[[], bool], say: Callable[[str, int, int], None]
    ) -> bool:
        """Make the shards that are not there or not whole, this process's share of them, and take all into memory.

        Returns False when `stop` said so; the shards made so far stay. The other processes of a launch are waited for.

        Raises:
            StorageError: not enough room for them, before the first is made.
            OSError: a shard cannot be written; the others are kept.
        """
        place, crew = folder / FOLDER, assemble(device)
        place.mkdir(parents=True, exist_ok=True)
        mine = range(crew.rank, self.shards, crew.size)
        missing = [k for k in mine if not self._is_whole(place / shard_name(k), k)]
        self._need_room(place, len(missing))
        done = len(mine) - len(missing)
        say("teacher samples", done, len(mine))
        for number, k in enumerate(missing, 1):
            if stop():
                return False
            write_table(
                place / shard_name(k), TEACHER_PAIRS, columns_of(self.make(k, crew.device)), {KEY: self._key(k)}
            )
            say("teacher samples", done + number, len(mine))
        for k in set(range(self.shards)) - set(mine):
            while not self._is_whole(place / shard_name(k), k):
                if stop():
                    return False
                time.sleep(POLL_S)
        if crew.leads:
            self._drop_others(place)
        return not stop() and self._read(place)

    def _key(self, k: int) -> str:
        """Name of a shard's content: the last one may hold fewer pairs than the same one of a larger wish."""
        rows = min(SHARD, self.count - k * SHARD)
        return f"{self.identity}:{k}" + (f":{rows}" if rows < SHARD else "")

    def _is_whole(self, file: Path, k: int) -> bool:
        """Whether a shard is there, is this run's, and is as it was written."""
        try:
            return read_metadata(file).get(KEY) == self._key(k) and verify(file)
        except (FormatError, OSError):
            return False

    def _need_room(self, place: Path, shards: int) -> None:
        frames = self.recipe.source.frames
        wanted = shards * SHARD * frames * (2 * 4 * CHANNELS + len(GROUPS))
        free = shutil.disk_usage(place).free
        if wanted * SPARE > free:
            told = f"{wanted / 2**20:.0f} MiB of teacher samples, {free / 2**20:.0f} MiB are free in {place}"
            raise StorageError(told, hint="free some space, or --set pairs=N for fewer")

    def _drop_others(self, place: Path) -> None:
        """Shards of an earlier, larger wish."""
        kept = {shard_name(k) for k in range(self.shards)}
        for file in place.glob("pairs-*.parquet"):
            if file.name not in kept:
                file.unlink()

    def _read(self, place: Path) -> bool:
        from formats.atomic import sha256_file

        found: list[Arrays] = []
        for k in range(self.shards):
            file = place / shard_name(k)
            found.append(arrays_of(read_table(file, TEACHER_PAIRS), self.recipe.source.frames, file))
            self._sha[f"{FOLDER}/{file.name}"] = sha256_file(file)
        self._pairs = {name: np.concatenate([a[name] for a in found]) for name in found[0]}
        return True

    def files(self) -> dict[str, str]:
        """Path in the run -> sha256."""
        return dict(self._sha)

    def make(self, k: int, device: torch.device) -> Arrays:
        """The pairs of a shard. The same numbers whichever process makes it and whatever was made before."""
        r, c = self.recipe, self.recipe.config
        pair = np.arange(k * SHARD, min((k + 1) * SHARD, self.count))
        rows = r.source.windows("train")
        epoch = pair // len(rows)
        window = np.concatenate([
            rows[permuted(pair[epoch == e] % len(rows), len(rows), r.seed, int(e))] for e in np.unique(epoch)
        ])  # fmt: skip
        rng = np.random.default_rng(mix(r.seed, DRAWS, k))
        masks, tasks, _ = draw_tasks(rng, len(pair), r.source.frames, c.inbetween, c.predict)
        heard = (rng.random(len(pair)) >= c.drop_audio) & (r.source.audio_width > 0)
        x0 = noise(len(pair), r.source.frames, r.seed, int(pair[0]), NOISE)
        made = {
            "pair": pair, "window": window, "epoch": epoch, "task": tasks.argmax(1), "heard": heard,
            "guidance": np.full(len(pair), r.teacher.guidance.audio, np.float32), "mask": masks > 0.5, "noise": x0,
        }  # fmt: skip
        r.teacher.to(device)
        data = []
        with arithmetic(device, c.threads):
            for start in range(0, len(pair), c.batch):
                s = slice(start, start + c.batch)
                batch = {n: v.to(device) for n, v in self._windows(window[s], epoch[s]).items()}
                told = tell(batch, cover(r.shape.groups), masks[s], tasks[s], heard[s])
                start_noise = torch.from_numpy(x0[s]).to(device)
                data.append(r.teacher.sample(start_noise, told, r.steps, r.solver).cpu().numpy())
        return {**made, "data": np.concatenate(data)}

    def _windows(self, window: I64, epoch: I64) -> dict[str, Tensor]:
        """Windows with an epoch each, normalised, in their order."""
        order = np.argsort(epoch, kind="stable")
        source, tensors = self.recipe.source, self.recipe.tensors
        found = [tensors(source.batch(window[epoch == e], int(e))) for e in np.unique(epoch)]
        back = torch.from_numpy(np.argsort(order, kind="stable"))
        return {name: torch.cat([f[name] for f in found])[back] for name in found[0]}

    def batch(self, items: I64) -> dict[str, Tensor]:
        """Pairs with the windows that condition them, as CPU tensors; before `prepare` those of the first shard."""
        if not self._pairs:  # a dry run
            self._pairs = self.make(0, torch.device("cpu"))
        at = np.asarray(items) % len(self._pairs["pair"])
        found = {name: a[at] for name, a in self._pairs.items()}
        told = {"noise": found["noise"], "data": found["data"], "mask": found["mask"].astype(np.float32),
                "task": np.eye(len(TASKS), dtype=np.float32)[found["task"]], "heard": found["heard"]}  # fmt: skip
        made = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in told.items()}
        return {**self._windows(found["window"], found["epoch"]), **made}

    def told(self, batch: Mapping[str, Tensor]) -> tuple[Told, Tensor]:
        """Conditions and noise of a batch."""
        hears, mask = batch["heard"], batch["mask"]
        flags = mask @ cover(mask.shape[-1]).to(mask.device)
        told = Told(batch["audio"] * hears[:, None, None], batch["x"], mask, batch["task"], hears, flags)
        return told, batch["noise"]


def shard_name(k: int) -> str:
    """File name of a shard."""
    return f"pairs-{k:06d}.parquet"


def columns_of(pairs: Arrays) -> dict[str, Any]:
    """A shard's arrays as columns of its table."""
    flat = {name: pairs[name].reshape(len(pairs["pair"]), -1) for name in ("mask", "noise", "data")}
    return {**pairs, **flat, "task": [TASKS[k] for k in pairs["task"]]}


def arrays_of(table: Any, frames: int, file: Path) -> Arrays:
    """The reverse. Raises FormatError for rows of another length."""
    n = table.num_rows
    found: Arrays = {name: table.column(name).to_numpy() for name in ("pair", "window", "epoch", "heard", "guidance")}
    found["task"] = np.array([TASKS.index(t) for t in table.column("task").to_pylist()], np.int64)
    for name, width in (("mask", len(GROUPS)), ("noise", CHANNELS), ("data", CHANNELS)):
        values = table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if len(values) != n * frames * width:
            raise FormatError(f"{len(values)} values for {n} windows of {frames} frames", file=file, field=name)
        found[name] = values.reshape(n, frames, width)
    return found
