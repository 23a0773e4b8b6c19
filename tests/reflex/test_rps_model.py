"""The network of M1: its size, its fixed scale, the hidden own block, the clamp and the loss."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from choreo_cli.reflex.encoders_torch import TinyEncoder, UnitBlock  # noqa: E402
from choreo_cli.reflex.inputs import BLOCK_SLICES, MODES  # noqa: E402
from choreo_cli.reflex.rps_losses_torch import RpsNet, Weights, arrays_of, rps_loss  # noqa: E402
from choreo_cli.reflex.translators_torch import Translators, bounded  # noqa: E402
from formats.columns import BLOCKS  # noqa: E402

HIDDEN = Weights(literal=False, reconstruct=0.5)
LITERAL = Weights(literal=True, reconstruct=0.0)


def net(seed: int = 0, **options: object) -> RpsNet:
    torch.manual_seed(seed)
    return RpsNet(**options)  # type: ignore[arg-type]


def batch(n: int = 256, seed: int = 0) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 11, generator=draws)
    every = torch.ones(n, 4, dtype=torch.bool)
    return {"x": x, "clean": x, "given": torch.ones(n, 11, dtype=torch.bool), "measured": every, "kept": every.clone()}


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_those_of_the_design() -> None:
    model = net()
    assert [count(model.encoders[m]) for m in MODES] == [9152, 2448, 2448, 1288]
    assert count(model.encoders) == 15_336
    assert count(model.translators) == 10_920
    assert [count(layer) for layer in model.translators.layers()] == [105 * w for w in BLOCKS.values()]


def test_an_encoder_is_linear_relu_linear() -> None:
    torch.manual_seed(0)
    e = TinyEncoder(2, 3, 5)
    x = torch.randn(7, 2)
    want = np.maximum(x.numpy() @ e.hidden.weight.detach().numpy().T + e.hidden.bias.detach().numpy(), 0)
    want = want @ e.out.weight.detach().numpy().T + e.out.bias.detach().numpy()
    np.testing.assert_allclose(e(x).detach().numpy(), want, atol=1e-6)


def test_a_block_has_unit_norm_over_its_measured_rows() -> None:
    unit = UnitBlock(16)
    h = torch.randn(500, 16) * 7 + 3
    rows = torch.arange(500) < 300
    h[300:] = 1e6
    z = unit(h, rows)[:300]
    assert z.mean(dim=0).abs().max() < 1e-5
    np.testing.assert_allclose(z.var(dim=0, unbiased=False).numpy(), 1 / 16, rtol=1e-4)
    assert z.pow(2).sum(dim=1).mean().item() == pytest.approx(1, rel=1e-4)


def test_running_statistics_serve_outside_training_and_for_a_single_row() -> None:
    unit = UnitBlock(4, momentum=0.5)
    for _ in range(40):
        unit(torch.randn(4000, 4) * 2 + 5, torch.ones(4000, dtype=torch.bool))
    one = torch.full((1, 4), 5.0)
    before = unit.mean.clone()
    assert unit(one, torch.ones(1, dtype=torch.bool)).abs().max() < 0.1
    unit.eval()
    assert unit(torch.randn(50, 4) + 99, torch.ones(50, dtype=torch.bool)).mean() > 10
    assert (unit.mean == before).all()


def test_folding_the_scale_into_the_last_layer_changes_nothing() -> None:
    model = net()
    for seed in range(20):
        rps_loss(model, batch(seed=seed), HIDDEN)
    model.eval()
    data = batch(1000, seed=99)
    z = model.encode(data["x"], data["measured"]).detach().numpy()
    a = arrays_of(model)
    columns = {"mot": slice(0, 6), "hr": slice(6, 8), "aud": slice(8, 10), "ctx": slice(10, 11)}
    for m in MODES:
        h = np.maximum(
            data["x"].numpy()[:, columns[m]] @ a[f"encoder.{m}.hidden.weight"].T + a[f"encoder.{m}.hidden.bias"], 0
        )
        folded = h @ a[f"encoder.{m}.out.weight"].T + a[f"encoder.{m}.out.bias"]
        np.testing.assert_allclose(folded, z[:, BLOCK_SLICES[m]], rtol=1e-6, atol=1e-6)


def test_no_block_is_predicted_from_itself_and_no_step_changes_that() -> None:
    model = net()
    steps = torch.optim.Adam(model.parameters(), 1e-2)
    for seed in range(5):
        steps.zero_grad()
        rps_loss(model, batch(seed=seed), HIDDEN)[0].backward()
        steps.step()
    weight, _ = model.translators.operator()
    for part in BLOCK_SLICES.values():
        assert (weight[part, part] == 0).all()
    z = torch.randn(3, 104)
    other = z.clone()
    other[:, BLOCK_SLICES["hr"]] += 10
    same = model.translators(z)[:, BLOCK_SLICES["hr"]] - model.translators(other)[:, BLOCK_SLICES["hr"]]
    assert same.abs().max() == 0
    assert all((a == b).all() for a, b in zip((weight,), model.translators.operator(), strict=False))


@pytest.mark.parametrize("clamp", ["stacked", "block"])
def test_the_clamp_holds_after_every_step(clamp: str) -> None:
    model = net(clamp=clamp, scale=3.0)
    steps = torch.optim.Adam(model.parameters(), 5e-2)
    for seed in range(5):
        steps.zero_grad()
        rps_loss(model, batch(seed=seed), HIDDEN)[0].backward()
        steps.step()
        weight = model.translators.operator()[0].detach().double()
        blocks = [float(torch.linalg.matrix_norm(weight[p], 2)) for p in BLOCK_SLICES.values()]
        whole = float(torch.linalg.matrix_norm(weight, 2))
        assert (whole if clamp == "stacked" else max(blocks)) <= 0.9 + 1e-6
        if clamp == "block":
            assert whole > 0.9, "the blocks' norms do not bound the whole: that is why stacked is the default"


def test_the_clamp_passes_the_true_gradient() -> None:
    torch.manual_seed(0)
    w = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    target = torch.randn(6, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: ((bounded(v, 0.9) - target) ** 2).sum(), (w,), eps=1e-6, atol=1e-5)
    small = (0.01 * w).detach()
    assert bounded(small, 0.9) is small


def test_weights_that_are_not_finite_do_not_break_the_clamp() -> None:
    w = torch.full((4, 4), float("nan"))
    assert torch.isnan(bounded(w, 0.9)).all()


def test_projecting_gives_the_clamped_operator_as_weights() -> None:
    t = Translators(BLOCKS, hide_own=False, scale=5.0)
    want = t.operator()[0].detach().clone()
    t.project()
    np.testing.assert_allclose(torch.cat([layer.weight for layer in t.layers()]).detach(), want, atol=1e-6)


def test_the_loss_by_hand() -> None:
    model = net().eval()
    data = batch(64)
    data["kept"][:20, 0] = False
    loss, parts = rps_loss(model, data, HIDDEN)
    z = model.encode(data["x"], data["measured"]).detach().numpy()
    weight, bias = (t.detach().numpy() for t in model.translators.operator())
    source = z.copy()
    source[:20, BLOCK_SLICES["mot"]] = 0
    square = (source @ weight.T + bias - z) ** 2
    cross = {m: square[:, p].sum(axis=1).mean() for m, p in BLOCK_SLICES.items()}
    for m in MODES:
        assert parts[f"cross_{m}"].item() == pytest.approx(cross[m], rel=1e-4)
    assert parts["cross"].item() == pytest.approx(np.mean(list(cross.values())), rel=1e-4)
    assert parts["raw"].item() == pytest.approx(np.mean([cross[m] / BLOCKS[m] for m in MODES]), rel=1e-4)
    assert loss.item() == pytest.approx(parts["cross"].item() + 0.5 * parts["reconstruct"].item(), rel=1e-5)


def test_unmeasured_blocks_are_outside_the_loss() -> None:
    model = net().eval()
    data = batch(64)
    data["measured"][:, 1] = data["kept"][:, 1] = False
    data["given"][:, 6:8] = False
    loss, parts = rps_loss(model, data, HIDDEN)
    loss.backward()
    assert parts["cross_hr"] == 0
    assert all(p.grad is None or (p.grad == 0).all() for p in model.encoders["hr"].parameters())
    assert (model.translators.linear["hr"].weight.grad == 0).all()


def test_a_frame_with_one_kept_modality_is_not_asked_to_predict_it() -> None:
    model = net().eval()
    data = batch(8)
    data["kept"][:, 1:] = False
    _, parts = rps_loss(model, data, HIDDEN)
    assert parts["cross_mot"] == 0 and parts["cross_hr"] > 0


@pytest.mark.parametrize(("into_target", "moves"), [(True, True), (False, False)])
def test_whether_the_target_is_moved(into_target: bool, moves: bool) -> None:
    """With nothing kept but motion, heart rate's encoder can learn from being a target only."""
    model = net()
    data = batch(64)
    data["kept"][:, 1:] = False
    rps_loss(model, data, Weights(False, 0.0, into_target))[0].backward()
    grads = [p.grad for p in model.encoders["hr"].parameters()]
    assert any(g is not None and bool((g != 0).any()) for g in grads) == moves


def test_the_literal_form_copies_its_own_block() -> None:
    model = net(unit=False, hide_own=False)
    assert not len(model.units) and not len(model.decoders)
    weight, _ = model.translators.operator()
    assert (weight[:64, :64] != 0).any()
    loss, parts = rps_loss(model, batch(), LITERAL)
    assert loss.item() == parts["raw"].item() and "reconstruct" not in parts


def test_arrays_of_a_modality_never_seen_are_silent() -> None:
    a = arrays_of(net(), ("hr",))
    assert (a["translator.hr.weight"] == 0).all() and (a["translator.hr.bias"] == 0).all()
    assert all((a[f"translator.{m}.weight"][:, BLOCK_SLICES["hr"]] == 0).all() for m in MODES)
    assert (a["translator.mot.weight"] != 0).any()
