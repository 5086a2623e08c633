"""Owns the checks of what a recipe means: the rate of every step, parameter groups, loss, mixup, moving average."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ladder
from ladder.errors import UserError
from ladder.training import optim
from ladder.training.recipe import Recipe


def recipe_of(**values: Any) -> Recipe:
    recipe = dataclasses.replace(Recipe(), **values)
    recipe.check()
    return recipe


def official_cosine(base: float, final: float, epochs: int, per_epoch: int, warmup_epochs: int) -> list[float]:
    """The official ConvNeXt code's rates, from its description: np.linspace up to the peak, then half a cosine."""
    warmup = warmup_epochs * per_epoch
    rest = epochs * per_epoch - warmup
    tail = [final + 0.5 * (base - final) * (1 + math.cos(math.pi * i / rest)) for i in range(rest)]
    return [*np.linspace(0, base, warmup), *tail]


# ------------------------------------------------------------------------------------------------ learning rate


def test_every_iteration_of_five_warm_up_epochs_and_the_cosine_is_the_official_one() -> None:
    recipe = recipe_of(epochs=12, warmup_epochs=5, lr=4e-3, min_lr=1e-6)
    schedule = optim.make_schedule(recipe, steps_per_epoch=312)
    want = official_cosine(4e-3, 1e-6, epochs=12, per_epoch=312, warmup_epochs=5)
    assert schedule.total_units * schedule.steps_per_unit == len(want) == 12 * 312
    np.testing.assert_allclose([schedule.lr(step) for step in range(len(want))], want, rtol=1e-12, atol=1e-18)
    assert schedule.lr(0) == 0
    assert schedule.lr(5 * 312 - 1) == schedule.lr(5 * 312) == 4e-3
    assert 1e-6 < schedule.lr(len(want) - 1) < 1.01e-6


@settings(max_examples=60, deadline=None)
@given(
    epochs=st.integers(1, 12),
    per_epoch=st.integers(1, 40),
    warmup=st.integers(0, 12),
    lr=st.floats(1e-4, 1.0),
)
def test_the_cosine_is_the_official_one_for_any_length(epochs: int, per_epoch: int, warmup: int, lr: float) -> None:
    warmup = min(warmup, epochs)
    schedule = optim.make_schedule(recipe_of(epochs=epochs, warmup_epochs=warmup, lr=lr, min_lr=1e-6), per_epoch)
    want = official_cosine(lr, 1e-6, epochs, per_epoch, warmup)
    rounding = 1e-15 * lr  # the last rates are differences of numbers as large as the peak
    np.testing.assert_allclose([schedule.lr(s) for s in range(epochs * per_epoch)], want, rtol=1e-12, atol=rounding)


@pytest.mark.parametrize("epochs", [5, 25, 150])
def test_every_iteration_of_the_piecewise_schedule_is_the_authors(epochs: int) -> None:
    schedule = optim.make_schedule(recipe_of(schedule="piecewise", epochs=epochs, lr=0.01), steps_per_epoch=37)
    knots = [0, epochs * 2 // 5, epochs * 4 // 5, epochs]  # in epochs, as the authors have them
    ends = [epoch + (i + 1) / 37 for epoch in range(epochs) for i in range(37)]
    want = np.interp(ends, knots, [0, 0.01, 0.01 / 20, 0])
    got = [schedule.lr(step) for step in range(len(want))]
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-15)
    assert got[epochs * 2 // 5 * 37 - 1] == max(got) == pytest.approx(0.01)
    assert got[-1] == 0


def test_the_step_schedule_drops_tenfold_every_thirty_epochs() -> None:
    recipe = recipe_of(schedule="step", schedule_unit="epoch", epochs=90, lr=0.1, decay_epochs=30, decay_rate=0.1)
    schedule = optim.make_schedule(recipe, steps_per_epoch=7)
    for step in range(90 * 7):
        assert schedule.lr(step) == pytest.approx(0.1 * 0.1 ** (step // 7 // 30), rel=1e-12)


def test_a_rate_by_epoch_is_the_curve_over_epochs_held_for_an_epoch() -> None:
    recipe = recipe_of(epochs=10, warmup_epochs=3, warmup_lr=1e-4, lr=1e-2, min_lr=1e-5)
    by_epoch = optim.make_schedule(dataclasses.replace(recipe, schedule_unit="epoch"), steps_per_epoch=11)
    over_epochs = optim.make_schedule(recipe, steps_per_epoch=1)
    for step in range(110):
        assert by_epoch.lr(step) == over_epochs.lr(step // 11)


def test_the_constant_schedule_warms_up_and_stays() -> None:
    schedule = optim.make_schedule(recipe_of(schedule="constant", epochs=3, warmup_epochs=1, lr=0.5), 5)
    assert [schedule.lr(s) for s in range(15)] == pytest.approx([0, 0.125, 0.25, 0.375] + [0.5] * 11)


def test_a_schedule_has_no_state() -> None:
    """Any order of steps, and a fresh object, give the same rates: a resumed run calls with its step and goes on."""
    recipe = recipe_of(epochs=4, warmup_epochs=1)
    schedule = optim.make_schedule(recipe, 25)
    straight = [schedule.lr(step) for step in range(100)]
    order = np.random.default_rng(0).permutation(100)
    assert [schedule.lr(int(step)) for step in order] == [straight[step] for step in order]
    assert [optim.make_schedule(recipe, 25).lr(step) for step in range(60, 100)] == straight[60:]


def test_a_run_shorter_than_its_warm_up_is_the_warm_ups_beginning() -> None:
    short = optim.make_schedule(recipe_of(epochs=2, warmup_epochs=20), 10)
    long = optim.make_schedule(recipe_of(epochs=300, warmup_epochs=20), 10)
    assert [short.lr(step) for step in range(20)] == [long.lr(step) for step in range(20)]


def test_after_the_end_the_last_rate_stays() -> None:
    schedule = optim.make_schedule(recipe_of(epochs=2), 10)
    assert schedule.lr(20) == schedule.lr(1000) == schedule.lr(19)


@pytest.mark.parametrize(
    ("batch", "reference", "want"), [(4096, 4096, 4e-3), (1024, 4096, 1e-3), (8192, 4096, 8e-3), (64, None, 4e-3)]
)
def test_the_rate_is_linear_in_the_global_batch(batch: int, reference: int | None, want: float) -> None:
    recipe = recipe_of(lr=4e-3, lr_batch_size=reference, batch_size=batch, min_lr=1e-6)
    assert recipe.peak_lr == pytest.approx(want, rel=1e-12)
    schedule = optim.make_schedule(recipe, 1000)
    assert schedule.lr(0) == pytest.approx(want, rel=1e-12)
    assert schedule.lr(300 * 1000 - 1) == pytest.approx(1e-6, rel=1e-3)  # absolute, whatever the batch


def test_a_peak_below_the_end_of_the_cosine_is_refused() -> None:
    with pytest.raises(UserError, match=r"min_lr=1e-06 is above the applied learning rate 9.7656.e-07"):
        optim.make_schedule(recipe_of(lr=4e-3, lr_batch_size=4096, batch_size=1, min_lr=1e-6), 10)


def test_a_peak_below_the_start_of_the_warm_up_is_refused() -> None:
    with pytest.raises(UserError, match=r"warmup_lr=0\.1 is above"):
        optim.make_schedule(recipe_of(warmup_epochs=5, warmup_lr=0.1), 10)


def test_an_epoch_at_rate_zero_is_refused() -> None:
    with pytest.raises(UserError, match="a whole epoch at 0"):
        optim.make_schedule(recipe_of(warmup_epochs=5, schedule_unit="epoch"), 10)


# ---------------------------------------------------------------------------------------------------- optimiser


def groups_by_name(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names) == len(found)
    return found


@pytest.mark.parametrize("rung", ["resnet", "layer_norm", "separate_downsampling"])
def test_weight_decay_is_off_on_parameters_of_one_dimension(rung: str) -> None:
    model = ladder.build_model("convnext_32", rung=rung, num_classes=10, layer_scale=1e-6)
    groups = groups_by_name(model, optim.make_optimizer(model, recipe_of()))
    shapes = {name: parameter.ndim for name, parameter in model.named_parameters()}
    assert set(shapes.values()) >= {1, 4}
    for name, group in groups.items():
        assert group["weight_decay"] == (0.0 if shapes[name] == 1 else 0.05), name
        assert "lr_scale" not in group


def test_the_adamw_of_the_paper() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.make_optimizer(model, recipe_of(lr=4e-3, lr_batch_size=4096, batch_size=1024, eps=1e-8))
    assert type(optimizer) is torch.optim.AdamW
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (1e-3, (0.9, 0.999), 1e-8)
        assert not group["amsgrad"]


@pytest.mark.parametrize(("name", "nesterov"), [("momentum", False), ("sgd", True)])
def test_the_sgd_of_torchvision_is_timms_momentum(name: str, nesterov: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    recipe = recipe_of(optimizer=name, lr=0.1, weight_decay=1e-4, decay_1d=True, momentum=0.85)
    optimizer = optim.make_optimizer(model, recipe)
    assert type(optimizer) is torch.optim.SGD
    assert len(groups_by_name(model, optimizer)) == 4
    for group in optimizer.param_groups:
        assert (group["weight_decay"], group["momentum"], group["nesterov"]) == (1e-4, 0.85, nesterov)


def table_6_group(name: str, depths: list[int]) -> int:
    """Layer group of a parameter of timm's ConvNeXt: three blocks a group, each downsampling with what follows."""
    if name.startswith("stem."):
        return 0
    before = [sum(math.ceil(d / 3) for d in depths[:stage]) for stage in range(5)]
    parts = name.split(".")
    if parts[0] != "stages":
        return before[4] + 1
    block = int(parts[3]) if parts[2] == "blocks" else 0
    return 1 + before[int(parts[1])] + block // 3


@pytest.mark.parametrize(
    ("name", "depths", "groups"),
    [("convnext_small", [3, 3, 27, 3], 13), ("convnext_tiny", [3, 3, 9, 3], 7), ("convnext_atto", [2, 2, 6, 2], 6)],
)
def test_layer_decay_multiplies_as_table_6_says(name: str, depths: list[int], groups: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=10)
    recipe = recipe_of(layer_decay=0.7, lr=5e-5, weight_decay=1e-8)
    optimizer = optim.make_optimizer(model, recipe)
    by_name = groups_by_name(model, optimizer)
    for parameter, group in by_name.items():
        assert group["lr_scale"] == pytest.approx(0.7 ** (groups - table_6_group(parameter, depths))), parameter
    assert by_name["head.fc.weight"]["lr_scale"] == 1
    assert by_name["stem.0.weight"]["lr_scale"] == pytest.approx(0.7**groups)
    assert by_name["stem.0.weight"]["weight_decay"] == 1e-8
    assert by_name["stem.0.bias"]["weight_decay"] == 0

    optim.make_schedule(recipe, 10).apply(optimizer, 17)
    rate = optim.make_schedule(recipe, 10).lr(17)
    assert by_name["head.fc.weight"]["lr"] == rate
    assert by_name["stem.0.weight"]["lr"] == pytest.approx(rate * 0.7**groups)


def test_our_top_rung_has_the_layer_groups_of_the_published_network() -> None:
    with torch.device("meta"):
        ours = ladder.build_model("convnext_b", num_classes=10)
        timms = timm.create_model("convnext_base", num_classes=10)

    def sizes(model: nn.Module) -> list[int]:
        count = [0] * 14
        for name, group in optim.layer_groups(model).items():
            count[group] += model.get_parameter(name).numel()
        return count

    assert sizes(ours) == sizes(timms)


@pytest.mark.parametrize("rung", ["resnet200", "inverted_bottleneck", "layer_norm"])
def test_layer_groups_rise_from_stem_to_head_on_every_rung(rung: str) -> None:
    with torch.device("meta"):
        model = ladder.build_model("convnext_b", rung=rung, num_classes=10)
    groups = optim.layer_groups(model)
    assert groups.keys() == dict(model.named_parameters()).keys()
    in_order = list(groups.values())
    assert in_order == sorted(in_order)
    assert set(in_order) == set(range(max(in_order) + 1))


def test_a_network_without_layers_cannot_have_layer_decay() -> None:
    with pytest.raises(UserError, match="group_matcher"):
        optim.make_optimizer(nn.Linear(2, 2), recipe_of(layer_decay=0.7))


def train_a_little(name: str, fused: bool | None, threads: int = 1) -> torch.Tensor:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        draws = torch.Generator().manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 64, 3), nn.Flatten())
        for parameter in model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=draws)
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = optim.make_optimizer(model, recipe_of(optimizer=name, lr=1e-2), fused=fused)
        for _ in range(5):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=draws).to(memory_format=torch.channels_last) \
                    if parameter.ndim == 4 else torch.randn(parameter.shape, generator=draws)  # fmt: skip
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["adamw", "momentum", "sgd"])
def test_the_fused_optimiser_on_cpu_is_exact_and_reproducible(name: str) -> None:
    fused, plain = train_a_little(name, fused=None), train_a_little(name, fused=False)
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)
    assert torch.equal(fused, train_a_little(name, fused=True))
    assert torch.equal(fused, train_a_little(name, fused=True, threads=2))


def test_fused_is_used_where_there_is_one_and_can_be_switched_off() -> None:
    model = nn.Linear(2, 2)
    assert optim.make_optimizer(model, recipe_of()).defaults["fused"] is True
    assert not optim.make_optimizer(model, recipe_of(), fused=False).defaults["fused"]
    assert "fused" not in optim.make_optimizer(model, recipe_of(optimizer="lion")).defaults
    with pytest.raises(UserError, match="no fused lion"):
        optim.make_optimizer(model, recipe_of(optimizer="lion"), fused=True)


# -------------------------------------------------------------------------------------------- loss, mixup, average


def test_the_loss_is_the_recipes() -> None:
    logits, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    reference = nn.functional.cross_entropy
    torch.testing.assert_close(optim.make_loss(recipe_of())(logits, labels), reference(logits, labels))
    smoothed = optim.make_loss(recipe_of(label_smoothing=0.1))(logits, labels)
    torch.testing.assert_close(smoothed, reference(logits, labels, label_smoothing=0.1))
    soft = torch.rand(6, 5).softmax(1)
    mixed = optim.make_loss(recipe_of(label_smoothing=0.1, cutmix=1.0))(logits, soft)
    torch.testing.assert_close(mixed, reference(logits, soft))


@pytest.mark.parametrize("values", [{}, {"label_smoothing": 0.1}, {"mixup": 0.8, "mixup_prob": 0.0}])
def test_a_recipe_that_does_not_mix_has_no_mixup_and_a_loss_for_labels(values: dict[str, float]) -> None:
    assert optim.make_mixup(recipe_of(**values), 10) is None
    loss = optim.make_loss(recipe_of(**values))
    assert loss(torch.randn(4, 10), torch.arange(4)).shape == ()


def mixed(key: tuple[int, ...], **values: float) -> tuple[torch.Tensor, torch.Tensor]:
    mixup = optim.make_mixup(recipe_of(mixup=0.8, cutmix=1.0, label_smoothing=0.1, **values), num_classes=10)
    assert mixup is not None
    images = torch.arange(8 * 3 * 16 * 16, dtype=torch.float32).reshape(8, 3, 16, 16)
    return optim.mixup_batch(mixup, images, torch.arange(8), key)


def test_a_mixed_batch_is_a_pure_function_of_its_key() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    images, targets = mixed((0, 3, 17))
    np.random.seed(2)
    torch.manual_seed(2)
    again, targets_again = mixed((0, 3, 17))
    assert torch.equal(images, again)
    assert torch.equal(targets, targets_again)
    others = [mixed(key)[1] for key in [(1, 3, 17), (0, 4, 17), (0, 3, 18), (0, 17, 3), (0, 3, 17, 1)]]
    assert all(not torch.equal(targets, other) for other in others)


def test_mixing_leaves_the_global_random_states_alone() -> None:
    np.random.seed(5)
    torch.manual_seed(5)
    want = np.random.random(4), torch.rand(4)
    np.random.seed(5)
    torch.manual_seed(5)
    mixed((1, 2, 3))
    got = np.random.random(4), torch.rand(4)
    assert np.array_equal(got[0], want[0])
    assert torch.equal(got[1], want[1])


def test_mixed_targets_are_smoothed_probabilities_of_the_two_classes() -> None:
    for step in range(20):
        images, targets = mixed((0, 0, step))
        assert images.shape == (8, 3, 16, 16)
        assert targets.shape == (8, 10)
        torch.testing.assert_close(targets.sum(1), torch.ones(8))
        lam = (targets[0, 0] - 0.01) / 0.9  # 0.1 of smoothing is shared by ten classes
        want = torch.full((8, 10), 0.01)
        for i in range(8):
            want[i, i] += 0.9 * lam
            want[i, 7 - i] += 0.9 * (1 - lam)
        torch.testing.assert_close(targets, want)


def test_cutmix_and_mixup_take_turns_as_the_switch_says() -> None:
    original = torch.arange(8 * 3 * 16 * 16, dtype=torch.float32).reshape(8, 3, 16, 16)

    def cut(step: int, **values: float) -> bool:  # cutmix copies pixels, mixup blends them
        images, _ = mixed((0, 0, step), **values)
        return bool(torch.isin(images, original).all())

    assert all(cut(step, mixup_switch_prob=1.0) for step in range(30))
    blended = [not cut(step, mixup_switch_prob=0.0) for step in range(30)]
    assert sum(blended) >= 25  # a draw near 0 or 1 changes nothing that float32 can show
    assert 20 <= sum(cut(step) for step in range(80)) <= 60


def test_an_odd_micro_batch_is_refused_at_the_start_and_on_the_way() -> None:
    recipe = recipe_of(mixup=0.8)
    with pytest.raises(UserError, match=r"even number of images a micro-batch, not 7: change recipe\.batch_size"):
        optim.make_mixup(recipe, 10, micro_batch=7)
    mixup = optim.make_mixup(recipe, 10, micro_batch=8)
    assert mixup is not None
    with pytest.raises(UserError, match="not 5"):
        optim.mixup_batch(mixup, torch.zeros(5, 1, 4, 4), torch.zeros(5, dtype=torch.int64), (0,))


def test_the_average_of_the_weights_follows_with_a_constant_decay() -> None:
    model = nn.BatchNorm1d(2)
    average = optim.make_ema(model, recipe_of(ema_decay=0.9))
    assert average is not None
    want = 1.0
    for value in (2.0, 5.0, 3.0):
        with torch.no_grad():
            model.weight.fill_(value)
            model.running_var.fill_(value)  # type: ignore[union-attr]
            model.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
        average.update(model)
        want = 0.9 * want + 0.1 * value
        torch.testing.assert_close(average.module.weight, torch.full((2,), want))
        torch.testing.assert_close(average.module.running_var, torch.full((2,), want))
    assert average.module.num_batches_tracked == 7


def test_a_recipe_without_an_average_has_none() -> None:
    assert optim.make_ema(nn.Linear(2, 2), recipe_of()) is None
