"""The training loop: evaluate, save, step, log; for every recipe and device, from wherever a run was stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from choreo_cli.errors import DataError, UsageError
from choreo_cli.training import order, schedules, state
from choreo_cli.training.accelerator import Crew, arithmetic, assemble
from choreo_cli.training.config import TrainConfig
from choreo_cli.training.ema import MovingAverage
from choreo_cli.training.gradients import backward
from choreo_cli.training.meter import Meter
from choreo_cli.training.recipe import Recipe
from formats.errors import FormatError

STATE = "state"
Record = dict[str, Any]
_MODEL, _STEP = 1, 2  # what a seed is for


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained model.

    Args:
        model: The weights that are kept, in eval mode, on the CPU: those with the lowest validation loss, without
            validation the moving average, else the last ones.
        steps: Steps done, over all the starts of the run.
        epochs: The same in passes over the items.
        state: `done`, or `stopped` because `stop` said so.
        kept: Validation figures of the kept weights, empty without validation.
        kept_step: Step they are from.
        early: Ended by patience.
        parameters: Numbers that were trained.
        leads: This process is the one that writes; False in the others of a torchrun launch.
        crews: [first step, processes] of each number of processes that took part, in order.
    """

    model: nn.Module
    steps: int
    epochs: float
    state: str
    kept: dict[str, float]
    kept_step: int
    early: bool
    parameters: int
    leads: bool = True
    crews: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run is.

    Args:
        items: Training items.
        batch: Items per step, at most.
        steps: Steps in all.
        per_epoch: Steps per pass over the items.
        every: Steps between validations, 0 for none.
        average: A moving average is kept.
    """

    items: int
    batch: int
    steps: int
    per_epoch: int
    every: int
    average: bool

    def is_judged(self, step: int) -> bool:
        """Whether the weights after this step are validated: at the end of epochs, and at the end of all."""
        return step > 0 and self.every > 0 and (step % self.every == 0 or step == self.steps)

    def is_kept(self, step: int, config: TrainConfig) -> bool:
        """Whether a checkpoint follows this step whatever the time: at the end of every so many epochs."""
        return step > 0 and config.checkpoint_epochs > 0 and step % (config.checkpoint_epochs * self.per_epoch) == 0


class _StopAsked(Exception):
    """Leaves a validation in the middle; it has changed nothing and is done again."""


@dataclass(slots=True)
class _Run:
    """What changes while a run lasts, and what it is made of."""

    recipe: Recipe
    plan: Plan
    crew: Crew
    folder: Path
    identity: str
    seed: int
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None
    progress: state.Progress
    best: dict[str, Tensor] | None
    meter: Meter
    log: Callable[[Record], None]
    beat: Callable[[Record], None]

    @property
    def candidate(self) -> nn.Module:
        """The weights that would be kept if they are good: the moving average when there is one."""
        return self.model if self.average is None else self.average.model

    def speak(self) -> None:
        """Heartbeat every few seconds, a record of the speed every minute."""
        if self.meter.is_beat_due():
            self.beat(self.meter.record(self.progress.step, self.crew.memory()))
        if self.meter.is_minute_over():
            self.log({"kind": "minute", **self.meter.record(self.progress.step, self.crew.memory(), restart=True)})


def plan_of(recipe: Recipe, overfit: int = 0) -> Plan:
    """Steps and validations of a run; `choreo train --dry-run` shows them.

    Args:
        recipe: Its `config` and `n_items` decide.
        overfit: Train on the first items only, for as many steps as the whole run has; 0 for all items.

    Raises:
        DataError: there is nothing to train on.
        UsageError: a negative `overfit`.
    """
    config: TrainConfig = recipe.config
    if recipe.n_items < 1:
        raise DataError(f"{recipe.name}: no training items", hint="give more measured sessions, or hold out fewer")
    if overfit < 0:
        raise UsageError(f"--overfit {overfit}: need a number of items, 1 or more")
    items = min(overfit, recipe.n_items) if overfit else recipe.n_items
    steps = config.epochs * order.steps_per_epoch(recipe.n_items, config.batch)
    steps = min(steps, config.steps or steps)
    per_epoch = order.steps_per_epoch(items, config.batch)
    every = 0 if overfit else per_epoch * config.validate_every
    return Plan(items, config.batch, steps, per_epoch, every, config.ema > 0)


def _silent(_: object) -> None:
    """Nobody listens."""


def fit(
    recipe: Recipe,
    folder: Path,
    *,
    identity: str,
    seed: int,
    device: str = "cpu",
    resume: bool = True,
    overfit: int = 0,
    stop: Callable[[], bool] = lambda: False,
    log: Callable[[Record], None] = _silent,
    beat: Callable[[Record], None] = _silent,
    after_checkpoint: Callable[[Path], None] = _silent,
) -> Fitted:
    """Train a recipe, from its last checkpoint when it has one; on the CPU both ways give the same bits.

    Under torchrun every process calls it alike and takes its share of every batch. Gradients are averaged by items, so
    a loss should be a mean over items. The first process alone validates, writes, logs and has the best weights; all
    read checkpoints, so they have to share the folder. Batch statistics (BatchNorm) are those of each one's share.

    Args:
        recipe: Model, data and loss. Its `config` holds the fields of `TrainConfig`.
        folder: Run folder; checkpoints lie in `state/`, nothing is written elsewhere.
        identity: `run_id` of the run: checkpoints of another are not used.
        seed: Decides the first weights, the order of the items and the draws of every step.
        device: From `runtime.choose_device`.
        resume: Go on from the last checkpoint.
        overfit: Train on this many first items only, without validation: the loss must go to nothing. 0 for all.
        stop: Asked after every step and inside validations; once it says yes a checkpoint is written and `fit` returns.
        log: Takes records that describe the run: `kind` is `start`, `note`, `step`, `validation` or `minute`.
        beat: Takes the speed so far (see `Meter.record`) every few seconds.
        after_checkpoint: Takes the path of a checkpoint's record, which is written last.

    Raises:
        UsageError: nothing to train on.
        DataError: the loss or a weight is not finite; the last checkpoint is from before.
        OSError: a checkpoint cannot be written.
    """
    plan, crew = plan_of(recipe, overfit), assemble(device)
    if not crew.leads:
        log, beat, after_checkpoint = _silent, _silent, _silent
    with arithmetic(crew.device, recipe.config.threads):
        run = _open(recipe, plan, crew, folder / STATE, identity, seed, resume, log, beat)
        ended = _train(run, stop, after_checkpoint)
    return _fitted(run, ended)


def _train(run: _Run, stop: Callable[[], bool], after_checkpoint: Callable[[Path], None]) -> str:
    """The loop itself; returns how it ended: `done` or `stopped`."""
    recipe, plan, crew, config, meter, now = run.recipe, run.plan, run.crew, run.recipe.config, run.meter, run.progress
    rate, logged = schedules.learning_rate(config, plan.steps), schedules.is_logged(plan.steps)
    weights = list(run.model.parameters())
    batches = _endless(plan, run.seed, now.step)
    while True:
        # evaluate
        if plan.is_judged(now.step) and now.judged != now.step:
            with _interruptible(stop, run):
                _evaluate(run)
            meter.lap("validation")
        cut = plan.is_judged(now.step) and now.judged != now.step  # stopped in the middle of that validation
        now.early, asked, cut = crew.agree(now.early, stop() or cut, cut)
        over = now.early or (now.step == plan.steps and not cut)

        # save
        if over or asked or meter.is_checkpoint_due(config.checkpoint_s) or plan.is_kept(now.step, config):
            if crew.leads:
                after_checkpoint(_save(run))
            meter.lap("checkpoint")
            meter.saved()
        if over or asked:
            break

        # step
        step, epoch = now.step + 1, now.step // plan.per_epoch
        items, share = crew.share(next(batches))
        seed = run.seed, _STEP, step, crew.rank
        loss, parts = backward(recipe, run.model, crew, items, epoch if plan.every else 0, seed, meter.lap)
        loss = crew.average(weights, loss, share)
        if crew.device.type == "cpu" or logged(step):  # elsewhere every look makes the device wait
            _need_finite(loss, parts, step, plan.steps)
        norm = _clip(weights, config.clip, logged(step))
        for group in run.optimizer.param_groups:
            group["lr"] = rate(step - 1)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            recipe.after_step(run.model)
            if run.average is not None:
                run.average.update(run.model, step)
        now.step = step
        meter.lap("step")

        # log
        if logged(step):
            told = {**crew.mean(parts, share), "loss": float(loss), "lr": rate(step - 1), "grad_norm": float(norm)}
            run.log({"kind": "step", "step": step, "epoch": step / plan.per_epoch, **_finite(told)})
        run.speak()
        meter.lap("other")
    run.beat(meter.record(now.step, crew.memory()))
    run.log({"kind": "minute", **meter.record(now.step, crew.memory())})
    return "done" if over else "stopped"


def _open(
    recipe: Recipe, plan: Plan, crew: Crew, folder: Path, identity: str, seed: int, resume: bool,
    log: Callable[[Record], None], beat: Callable[[Record], None],
) -> _Run:  # fmt: skip
    """The model as it starts, or as its last checkpoint left it."""
    config: TrainConfig = recipe.config
    crew.seed(order.mix(seed, _MODEL))
    model = recipe.model().to(crew.device).train()
    weights = list(model.parameters())
    kind = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    optimizer = kind(
        weights, lr=config.lr, betas=(0.9, config.beta2), weight_decay=config.weight_decay,
        fused=crew.device.type in ("cpu", "cuda"),
    )  # fmt: skip
    average = MovingAverage(model, config.ema) if config.ema else None
    progress, best = state.Progress(), None
    if resume:
        found, notes = state.read_last(folder, identity, asdict(plan), state.shapes(model))
        if found is not None:
            arrays, progress = found
            best = state.restore(arrays, model, optimizer, None if average is None else average.model)
        notes += progress.joined(crew.size)
        for note in notes:
            log({"kind": "note", "message": note})
    begun = {
        "step": progress.step, "steps": plan.steps, "items": plan.items, "device": str(crew.device),
        "processes": crew.size, "seed": seed, "parameters": sum(w.numel() for w in weights if w.requires_grad),
    }  # fmt: skip
    log({"kind": "start", **begun})
    meter = Meter(progress.step, plan.steps, progress.seconds)
    return _Run(recipe, plan, crew, folder, identity, seed, model, optimizer, average, progress, best, meter, log, beat)


def _endless(plan: Plan, seed: int, step: int) -> Iterator[order.I64]:
    """Batches from `step` on, epoch after epoch."""
    epoch, start = divmod(step, plan.per_epoch)
    while True:
        yield from order.batches(plan.items, plan.batch, seed, epoch, start)
        epoch, start = epoch + 1, 0


def _evaluate(run: _Run) -> None:
    """Judge the candidate's weights, keep them when they are the best, and count down the patience."""
    now, candidate = run.progress, run.candidate
    if run.crew.leads:
        candidate.eval()
        try:
            with torch.no_grad():
                figures = _finite(run.recipe.validate(candidate))
        finally:
            run.model.train()
        loss = figures.get("loss")
        better = loss is not None and (now.best is None or loss < now.best)
        if better:
            run.best = {name: value.detach().cpu().clone() for name, value in candidate.state_dict().items()}
            now.best, now.best_step, now.waited = loss, now.step, 0
        elif "loss" in figures:
            now.waited += 1
        if better or now.best is None:
            now.figures = figures
        if figures:
            epoch = now.step / run.plan.per_epoch
            run.log({"kind": "validation", "step": now.step, "epoch": epoch, **figures, "best": better})
        patience = run.recipe.config.patience
        if patience and now.waited >= patience and now.step < run.plan.steps:
            now.early = True
            run.log({"kind": "note", "message": f"ended early: {now.waited} validations without improvement"})
    now.judged = now.step


@contextmanager
def _interruptible(stop: Callable[[], bool], run: _Run) -> Iterator[None]:
    """Ask `stop` and give signs of life whenever a layer inside the block is called; leaves the block on a yes."""

    def ask(_module: nn.Module, _inputs: Any) -> None:
        run.meter.lap("validation")
        run.speak()
        if stop():
            raise _StopAsked

    handle = nn.modules.module.register_module_forward_pre_hook(ask)
    try:
        yield
    except _StopAsked:
        pass
    finally:
        handle.remove()


def _save(run: _Run) -> Path:
    """Write a checkpoint. Raises DataError when a weight is not finite."""
    average = None if run.average is None else run.average.model
    run.progress.seconds = run.meter.seconds
    arrays = state.collect(run.model, run.optimizer, average, run.best)
    try:
        return state.write(run.folder, arrays, run.progress, run.identity, asdict(run.plan))
    except FormatError as e:
        message = f"{e.field} is not finite after step {run.progress.step}"
        raise DataError(message, hint="lower lr or set clip; the checkpoint before is kept") from None


def _need_finite(loss: Tensor, parts: Mapping[str, Tensor], step: int, steps: int) -> None:
    """Raise DataError, naming the parts, when the loss is not a number to go on with."""
    if not math.isfinite(float(loss)):
        named = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in parts.items())
        told = f" ({named})" if named else ""
        hint = "lower lr, set clip, or look for odd values in the data; the last checkpoint is kept"
        raise DataError(f"the loss is {float(loss)} at step {step} of {steps}{told}", hint=hint)


def _clip(weights: list[nn.Parameter], largest: float, wanted: bool) -> Tensor | float:
    """The norm of the gradient before it is clipped; without clipping only where it is wanted."""
    if largest:
        return nn.utils.clip_grad_norm_(weights, largest)
    return nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None]) if wanted else 0.0


def _finite(figures: Mapping[str, float]) -> dict[str, Any]:
    """Figures as JSON takes them: None for what is not finite."""
    return {name: float(value) if math.isfinite(value) else None for name, value in figures.items()}


def _fitted(run: _Run, ended: str) -> Fitted:
    now = run.progress
    weights = run.candidate.state_dict() if run.best is None else run.best
    kept_step = now.step if run.best is None else now.best_step
    figures = now.figures if run.best is not None or now.judged == now.step else {}
    run.model.load_state_dict({name: value.cpu() for name, value in weights.items()})
    return Fitted(
        model=run.model.cpu().eval(),
        steps=now.step,
        epochs=now.step / run.plan.per_epoch,
        state=ended,
        kept={name: value for name, value in figures.items() if value is not None},
        kept_step=kept_step,
        early=now.early,
        parameters=sum(w.numel() for w in run.model.parameters() if w.requires_grad),
        leads=run.crew.leads,
        crews=tuple((step, count) for step, count in now.crews),
    )
