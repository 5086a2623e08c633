"""Owns the tests of outlines: costs and drawings of a spec are those of the network that it builds, which none is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import astuple
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import isotropic_specs, small_specs

from analysis.show import anatomy
from ladder.errors import UserError
from ladder.networks.build import build_net, check_image_size, net_class
from ladder.networks.cost import cost_breakdown, measure_cost
from ladder.networks.cost_records import Cost
from ladder.networks.layers import make_act
from ladder.networks.outline import PLAIN_ACTS, spec_breakdown, spec_cost
from ladder.networks.rungs import list_ladders, load_ladder
from ladder.networks.spec import Spec
from ladder.paths import conf_dir


def _measured(spec: Spec, size: int, classes: int, chans: int) -> Cost:
    with torch.device("meta"):
        return measure_cost(build_net(spec, num_classes=classes, in_chans=chans), size, chans)


@settings(max_examples=100)
@given(small_specs() | isotropic_specs(), st.integers(0, 40), st.integers(0, 12), st.integers(1, 4))
def test_the_cost_of_a_spec_is_that_of_its_network(spec: Spec, more: int, classes: int, chans: int) -> None:
    size = net_class(spec).min_image_size(spec) + more
    with torch.device("meta"):
        net = build_net(spec, num_classes=classes, in_chans=chans)
    assert spec_cost(spec, size, classes, chans) == measure_cost(net, size, chans)
    layers = cost_breakdown(net, size, chans)
    assert sorted(map(astuple, spec_breakdown(spec, size, classes, chans))) == sorted(map(astuple, layers))


@settings(max_examples=100)
@given(small_specs() | isotropic_specs(), st.integers(0, 20), st.integers(1, 4))
def test_the_anatomy_of_a_spec_is_that_of_its_network(spec: Spec, more: int, chans: int) -> None:
    size = net_class(spec).min_image_size(spec) + more
    drawn = anatomy.anatomy.__wrapped__(spec, size, chans)
    with mock.patch.object(anatomy, "outline", return_value=None):
        assert drawn == anatomy.anatomy.__wrapped__(spec, size, chans)


@given(small_specs() | isotropic_specs())
def test_images_that_are_too_small_are_refused_in_the_same_words(spec: Spec) -> None:
    if too_small := net_class(spec).min_image_size(spec) - 1:
        with pytest.raises(UserError) as counted:
            spec_cost(spec, too_small)
        with pytest.raises(UserError) as checked:
            check_image_size(spec, too_small)
        assert str(counted.value) == str(checked.value)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [((-1, 3), "num_classes=-1: "), ((10, 0), "in_chans=0: "), ((True, 3), "num_classes=True: ")],
)
def test_numbers_that_can_not_be_are_refused(numbers: tuple[int, int], told: str) -> None:
    with pytest.raises(UserError, match=told):
        spec_cost(load_ladder("convnext_mini").rungs[0].spec, 32, *numbers)


@pytest.mark.parametrize("name", list_ladders())
def test_the_cost_of_every_ladders_ends(name: str) -> None:
    ladder = load_ladder(name)
    for rung in (ladder.rungs[0], ladder.rungs[-1]):
        spec = rung.spec.for_images(ladder.image_size)
        assert spec_cost(spec, ladder.image_size) == _measured(spec, ladder.image_size, 1000, 3)


@pytest.mark.parametrize("act", PLAIN_ACTS)
def test_plain_activations_have_no_parameters(act: str) -> None:
    made = make_act(act)
    assert type(made).__name__ == PLAIN_ACTS[act] and not list(made.parameters())


@pytest.mark.parametrize(
    "work",
    [
        "from ladder.networks.outline import spec_cost; from ladder.networks.rungs import load_ladder\n"
        "for rung in load_ladder('convnext_t').rungs: spec_cost(rung.spec, 224)",
        "from analysis.figures import main\n"
        "for word in ('blocks', 'cost_by'):\n"
        "    main(['runs/published/demo', '--formats', 'svg', '--only', word, '--out', sys.argv[1]])",
    ],
    ids=["cost", "charts"],
)
def test_no_torch_is_imported(work: str, tmp_path: Path) -> None:
    code = f"import sys\n{work}\nprint('torch' in sys.modules)"
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=conf_dir().parent, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"
