"""What `choreo train flow` and `choreo train ddim` have in common: data, conditions, loss, checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from choreo_cli.dataset.motions_stats import Stats
from choreo_cli.errors import UsageError
from choreo_cli.generate import decision
from choreo_cli.generate.conditioning import extra_vector
from choreo_cli.generate.config import SIZES, TEXT_WIDTH, MotionConfig, Shape
from choreo_cli.generate.dit_torch import build, time_features
from choreo_cli.generate.flow_torch import coupled
from choreo_cli.generate.model_files import encode_model, open_model, sampler_from, shape_of, torch_forward
from choreo_cli.generate.structure_torch import structure_terms
from choreo_cli.generate.tasks import draw_tasks
from choreo_cli.generate.text import HashEncoder
from choreo_cli.training.recipe import Finished, Job, RunFiles

I64 = NDArray[np.int64]

READS = ("choreo.motions",)
TAKES = ()
JUDGED_AT = 20  # seed of the validation's noise, times and tasks: the same for every run
DRAWN = 64
LOG = "log.jsonl"


class Objective(Protocol):
    """What a network learns; `FlowObjective` and `DdimObjective`."""

    @property
    def predict(self) -> str: ...
    def times(self, count: int, draws: torch.Generator) -> Tensor: ...
    def stratified(self, count: int) -> Tensor: ...
    def noisy(self, x1: Tensor, x0: Tensor, t: Tensor) -> Tensor: ...
    def data(self, out: Tensor, x: Tensor, t: Tensor) -> Tensor: ...
    def error(self, out: Tensor, x1: Tensor, x0: Tensor, t: Tensor) -> Tensor: ...
    def signal(self, t: Tensor) -> Tensor: ...


class MotionData(Protocol):
    """Windows to learn from; `dataset.motions.MotionSet`."""

    @property
    def fps(self) -> float: ...
    @property
    def frames(self) -> int: ...
    @property
    def audio_width(self) -> int: ...
    @property
    def synthetic(self) -> bool: ...
    @property
    def stats(self) -> Stats: ...
    def windows(self, split: str) -> I64: ...
    def batch(self, rows: I64, epoch: int) -> Mapping[str, NDArray[Any]]: ...
    def record(self) -> dict[str, Any]: ...


@dataclass(slots=True)
class MotionRecipe:
    """One network, its windows and its loss; see `training.recipe.Recipe`.

    Args:
        name: `flow` or `ddim`.
        config: Settings.
        seed: Of the run, for the card.
        source: Windows.
        objective: What is learned.
        facts: What the card says of sampling: `process`, `predict`, `defaults`...
        inputs, data, roots: Provenance.
        given: Where the data were named, for the command that the early decision prints.
    """

    name: str
    config: MotionConfig
    seed: int
    source: MotionData
    objective: Objective
    facts: dict[str, Any]
    inputs: list[dict[str, Any]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    roots: dict[str, Path] = field(default_factory=dict)
    parents: list[dict[str, Any]] = field(default_factory=list)
    given: Path | None = None
    transport: bool = False

    @property
    def n_items(self) -> int:
        return len(self.source.windows("train"))

    @property
    def synthetic(self) -> bool:
        return bool(self.source.synthetic)

    @property
    def shape(self) -> Shape:
        return shape_of(SIZES[self.config.size], self.source.frames, self.source.audio_width)

    def model(self) -> nn.Module:
        """A fresh network."""
        return build(self.shape)

    def batch(self, items: I64, epoch: int) -> dict[str, Tensor]:
        """`x` (B, T, 25) and `audio` (B, T, A), normalised; `text` (B, 384) where there are captions."""
        return self._tensors(self.source.batch(self.source.windows("train")[items], epoch))

    def loss(
        self, model: nn.Module, batch: Mapping[str, Tensor], draws: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The error of the objective where nothing is given, and the weighted structure terms."""
        x1, c = batch["x"], self.config
        count, device = len(x1), x1.device
        x0 = torch.randn(x1.shape, generator=draws)
        t = self.objective.times(count, draws)
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=draws)))
        audio, text, told = self._withheld(batch, rng)
        masks, tasks, bare = draw_tasks(rng, count, x1.shape[1], c.inbetween, c.predict)
        x0 = x0.to(device)
        if self.transport:
            alike = torch.from_numpy(np.where(bare & ~told, -1, np.arange(count)))
            x0 = coupled(x0, x1, alike)
        conditions = (torch.from_numpy(masks).to(device), text, torch.from_numpy(tasks).to(device))
        error, parts = self._judge(model, x1, x0, t.to(device), audio, *conditions, c.structure_clips)
        weighted = c.position * parts["position"] + c.velocity * parts["velocity"] + c.contact * parts["contact"]
        return error + weighted, {"error": error, **parts}

    def after_step(self, model: nn.Module) -> None:
        """Nothing to project."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The error on held-out windows with all conditions, at stratified times; the same draws in every run."""
        rows = self._held_out()
        if not len(rows):
            return {}
        device = next(model.parameters()).device
        rng, draws = np.random.default_rng(JUDGED_AT), torch.Generator().manual_seed(JUDGED_AT)
        times = self.objective.stratified(len(rows))[torch.randperm(len(rows), generator=draws)]
        noise = torch.randn((len(rows), self.source.frames, 25), generator=draws)
        c = self.config
        masks, tasks, _ = draw_tasks(rng, len(rows), self.source.frames, c.inbetween, c.predict)
        sums: dict[str, float] = {}
        for start in range(0, len(rows), c.batch):
            s = slice(start, start + c.batch)
            batch = {k: v.to(device) for k, v in self._tensors(self.source.batch(rows[s], 0)).items()}
            given = [torch.from_numpy(a[s]).to(device) for a in (masks, tasks)]
            text = batch.get("text", torch.zeros(len(batch["x"]), TEXT_WIDTH, device=device))
            error, parts = self._judge(
                model, batch["x"], noise[s].to(device), times[s].to(device), batch["audio"], given[0], text, given[1], 0
            )
            for name, value in {"loss": error, **parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch["x"]) / len(rows)
        return sums

    def _judge(
        self, model: nn.Module, x1: Tensor, x0: Tensor, t: Tensor, audio: Tensor, mask: Tensor, text: Tensor,
        task: Tensor, decoded: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """Mean error over what is not given; and by name that of the data, comparable between all objectives, and the
        structure terms of the first `decoded` clips (0: all)."""
        goal = self.objective
        width = self.shape.width
        x = goal.noisy(x1, x0, t).float()
        extra = torch.from_numpy(extra_vector(len(x1))).to(x1.device)
        out = model(x, time_features(t, width), audio, x1, mask, text, task, extra).float()
        t = t.float()
        given = mask @ self._cover(model)
        free = 1 - given
        error = ((goal.error(out, x1, x0, t) * free).sum((1, 2)) / free.sum((1, 2)).clamp(min=1)).mean()
        n = decoded or len(x1)
        data = goal.data(out, x, t)
        away = (((data - x1).square() * free).sum((1, 2)) / free.sum((1, 2)).clamp(min=1)).mean()
        found = torch.where(given > 0.5, x1, data)[:n]
        s = self.source.stats
        mean, std = (torch.tensor(np.asarray(v, np.float32), device=x1.device) for v in (s.mean, s.std))
        raw = (found * std + mean, x1[:n] * std + mean)
        return error, {"data": away.detach(), **structure_terms(*raw, self.source.fps, goal.signal(t)[:n])}

    def _cover(self, model: nn.Module) -> Tensor:
        cover: Any = getattr(model, "module", model).cover
        return torch.as_tensor(cover)

    def _withheld(self, batch: Mapping[str, Tensor], rng: np.random.Generator) -> tuple[Tensor, Tensor, Any]:
        """Audio and text with conditions dropped by chance, and which rows are still told something (B,)."""
        c, audio = self.config, batch["audio"]
        u = rng.random(len(audio))
        no_audio = u < c.drop_audio + c.drop_both
        no_text = (u >= c.drop_audio) & (u < c.drop_audio + c.drop_both + c.drop_text)
        heard = torch.from_numpy(~no_audio).to(audio.device)
        text = batch.get("text")
        if text is None:
            text, no_text = torch.zeros(len(audio), TEXT_WIDTH, device=audio.device), np.ones(len(audio), bool)
        read = torch.from_numpy(~no_text).to(audio.device)
        hears = ~no_audio if audio.shape[-1] else np.zeros(len(audio), bool)
        return audio * heard[:, None, None], text * read[:, None], hears | ~no_text

    def _tensors(self, found: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        s = self.source.stats
        made = {"x": s.normalise(found["x"]), "audio": s.normalise_audio(found["audio"])}
        made |= {"text": found["text"]} if "text" in found else {}
        return {k: torch.from_numpy(np.ascontiguousarray(v, np.float32)) for k, v in made.items()}

    def _held_out(self) -> I64:
        rows = self.source.windows("val")
        return rows[:: max(1, -(-len(rows) // self.config.val_windows))]

    def finish(self, model: nn.Module, files: RunFiles) -> Finished:
        """Draw from the network, take the early decision, write the checkpoint."""
        net = getattr(model, "module", model)
        folder = files.target("model.json").parent
        facts = {
            **self.facts, "fps": float(self.source.fps), "frames": self.source.frames, "size": self.config.size,
            "audio_features": list(self.data.get("audio", [])), "seed": self.seed,
            "text_encoder": {"id": HashEncoder.id, "kind": HashEncoder.kind, "trained": False},
            "trained_tasks": self._trained_tasks(), "synthetic": self.synthetic,
            "data": {"sha256": self.data.get("sha256")},
        }  # fmt: skip
        found = self._decide(net, facts, folder, files.created_by)
        facts["decision"] = found.record()
        for role, name, data in encode_model(self.name, net, self.shape, facts, self.source.stats, files.created_by):
            files.write(role, name, data)
        return Finished([found.metric()], [found.sentence, *self.data.get("notes", [])])

    def _trained_tasks(self) -> list[str]:
        c = self.config
        shares = (("INBETWEEN", c.inbetween), ("PREDICT", c.predict), ("GEN", 1 - c.inbetween - c.predict))
        return sorted(name for name, share in shares if share > 1e-9)

    def _decide(
        self, net: nn.Module, facts: Mapping[str, Any], folder: Path, created_by: Mapping[str, Any]
    ) -> decision.Decision:
        rows, near, far = self._held_out()[:DRAWN], None, None
        if len(rows) > 1:
            batch = self.source.batch(rows, 0)
            sampler = sampler_from(torch_forward(net), self.shape, facts, self.source.stats)
            audio = batch["audio"] if self.source.audio_width else None
            drawn = sampler.sample(audio, seed=self.seed, clips=len(rows))
            s = self.source.stats
            real = s.normalise(batch["x"])
            near = decision.distance_to(real, s.normalise(drawn))
            far = decision.distance_to(real, np.zeros_like(real))
        settings = decision.changed(self.config)
        commands = decision.way_out(self.name, folder, self.given, self.config.size, self.seed, settings)
        return decision.decide(decision.validation_losses(folder / LOG), near, far, commands)


def open_data(job: Job) -> dict[str, Any]:
    """The windows of a job with their provenance, as fields of `MotionRecipe`.

    Raises:
        UsageError: nothing is named.
        DataError, FormatError, NoInputError: what the set raises.
    """
    from choreo_cli.dataset.motions import MotionSet

    named = job.manifest if job.manifest is not None else job.source
    if named is None:
        raise UsageError("needs motions", hint="name what choreo synth motions, retarget or pair has written")
    c: MotionConfig = job.config
    source = MotionSet.open(
        named, job.roots, frames=c.frames, stride=c.stride, fps=c.fps, audio=c.audio, mirror=c.mirror, seed=job.seed
    )
    return {
        "config": c, "seed": job.seed, "source": source, "data": source.record(), "inputs": list(source.inputs),
        "roots": {"data": source.folder}, "given": job.source,
    }  # fmt: skip


def score(folder: Path, frames: Any, roots: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Refuse: clips are judged against music and held-out clips by `choreo evaluate generation`, not on frames."""
    open_model(folder)
    raise UsageError("a motion network is not judged on frames", hint=f"choreo evaluate generation {folder}")
