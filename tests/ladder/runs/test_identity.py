"""Owns the promise that a run keeps its name: what is hashed of it, and that every published run is still found."""

from __future__ import annotations

import copy
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from image_folders import make_folder
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save
from tiny import config, kill, run_of, start, train, wait, wait_for

import ladder
from analysis.read import packed
from ladder.data import content, folders
from ladder.errors import UserError
from ladder.networks.rungs import Ladder
from ladder.networks.weights import save_model
from ladder.paths import conf_dir
from ladder.runs.config import TrainConfig
from ladder.runs.identity import weights_digests
from ladder.runs.notes import notes
from ladder.runs.resolve import Run, resolve

PUBLISHED = sorted(path.parent for path in (conf_dir().parent / "runs" / "published").glob("*/study.json"))


def config_of(kept: dict[str, Any]) -> DictConfig:
    """The config that a run's config.yaml was made of."""
    subset = {"rung": None} if kept.get("steps") is not None else {}  # its name stands there too
    merged = OmegaConf.merge(OmegaConf.structured(TrainConfig), {**kept, **subset})
    assert isinstance(merged, DictConfig)
    return merged


@pytest.mark.parametrize("study", PUBLISHED, ids=lambda study: study.name)
def test_every_published_run_keeps_its_hashes(study: Path) -> None:
    found = packed.find(study)
    assert found is not None and found.configs
    hashes = {row["run"]: (row["config_hash"], row["group_hash"]) for row in found.rows()}
    resolved: dict[str, Run] = {}  # runs that differ in the seed alone share one
    for name, kept in found.configs.items():
        key = json.dumps({**kept, "seed": 0})
        if key not in resolved:
            resolved[key] = resolve(config_of(kept), ladder.load_ladder(kept["ladder"]))
        run = resolved[key].with_seed(kept["seed"])
        assert run.label == name
        assert (run.config_hash, run.group_hash) == hashes[name], name


# --- equal networks, equal names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plain", "written"),
    [
        (["rung=kernel_7"], ["spec.kernel_size=7"]),
        ([], ["spec.drop_path=0"]),
        ([], ["spec.drop_path=-0.0"]),
        ([], ["spec.drop_path=0.0", "spec.stem_norm=true"]),
        (["recipe.drop_path=0.1"], ["spec.drop_path=0.1"]),
        (["spec.layer_scale=1.0"], ["spec.layer_scale=1"]),
        ([], ["spec.act=GELU"]),
        ([], ["recipe.optimizer=AdamW"]),
        ([], ["recipe.source=mine"]),
    ],
)
def test_two_ways_to_write_one_network_are_one_run(plain: list[str], written: list[str]) -> None:
    one, other = (resolve(config("ladder=convnext_32", *more)) for more in (plain, [*plain, *written]))
    assert one.spec == other.spec
    assert (one.label, one.group_hash) == (other.label, other.group_hash)


def test_what_changes_the_network_changes_both_hashes() -> None:
    own, other = (resolve(config("rung=kernel_7", *more)) for more in ([], ["spec.kernel_size=5"]))
    assert own.config_hash != other.config_hash and own.group_hash != other.group_hash


def test_a_number_of_a_ladder_file_is_hashed_by_its_fields_type() -> None:
    chain = yaml.safe_load((conf_dir() / "ladder" / "convmixer_cifar10.yaml").read_text())
    whole = copy.deepcopy(chain)
    (step,) = (step for step in whole["steps"] if step["name"] == "no_mixup_cutmix")
    assert step["recipe"] == {"mixup": 0.0, "cutmix": 0.0}
    step["recipe"], whole["base"]["spec"]["drop_path"] = {"mixup": 0, "cutmix": 0}, 0
    chain["base"]["spec"]["drop_path"] = 0.0
    ours = {"rung": "no_mixup_cutmix", "recipe": {"name": "x"}, "data": {"name": "cifar10", "source": "torchvision"}}
    runs = [resolve(config_of({**ours, "ladder": written})) for written in (chain, whole)]
    assert runs[0].label == runs[1].label and runs[0].group_hash == runs[1].group_hash


@pytest.mark.parametrize("name", ["3", "-1", "1e3", "0.5", "1_000", "null", "True", "nan", ""])
def test_a_step_is_not_called_what_means_another(name: str) -> None:
    chain = yaml.safe_load((conf_dir() / "ladder" / "convnext_32.yaml").read_text())
    chain["steps"][0]["name"] = yaml.safe_load(name) if name else ""
    with pytest.raises(UserError, match="must not be a number, null, true or false"):
        Ladder.from_mapping(chain)


# --- seeds, and keys that nothing reads ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [-1, 2**32, 2**63, 2**64])
def test_a_seed_that_would_share_its_draws_is_refused(seed: int) -> None:
    with pytest.raises(UserError, match=rf"seed={seed}: must be a whole number from 0 to 4294967295"):
        resolve(config(f"seed={seed}"))
    with pytest.raises(UserError, match=f"seed={seed}"):
        resolve(config()).with_seed(seed)
    assert resolve(config(f"seed={2**32 - 1}")).seed == 2**32 - 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+recipe.weight_decy=0.2", "unknown config key of recipe 'weight_decy'; did you mean weight_decay"),
        ("+dta.image_size=8", "unknown config key 'dta'; did you mean data"),
        ("+engine.save=1", "unknown config key of engine 'save'"),
        ("++wandb.notes=[a]", "unknown config key of wandb 'notes'"),
        ("+spec.kernels=3", "unknown config key of spec 'kernels'"),
        ("+design.runz=3", "unknown config key of design 'runz'; did you mean runs"),
        ("engine.save_every=nan", "engine.save_every=nan: must be seconds"),
        ("engine.log_every=-1", "engine.log_every=-1"),
        ("engine.log_every=inf", "engine.log_every=inf"),
        ("recipe.eps=1e30", "recipe.eps=1e+30; allowed: 0 to 1"),
        ("data.eval_split=val", "data.eval_split=val: digits has train and test only"),
        ("data.train_split=test", "data.train_split=test: digits has train and test only"),
        ("data.timm_name=hfds/x", "data.timm_name=hfds/x: data=digits does not read it"),
    ],
)
def test_what_would_be_ignored_is_refused(override: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(config(override))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_key_of_ones_own_that_others_refer_to_is_no_mistake() -> None:
    assert resolve(config("+fold=3", "data.root=sets/${fold}")).data.root == "sets/3"


def test_recipe_keys_without_effect_are_told() -> None:
    asked = ["recipe.momentum=0.5", "recipe.decay_rate=0.2", "recipe.lr=0.1", "recipe.remode=rand"]
    told = notes([(resolve(config(*asked)), asked)])
    assert [line.partition(" changes nothing")[0] for line in told] == [
        *("recipe.momentum", "recipe.decay_rate", "recipe.remode"),
    ]


# --- start weights ---------------------------------------------------------------------------------------------------


def weights(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, str]) -> str:
    path.write_bytes(save(tensors, about))
    return f"weights={path}"


def test_start_weights_are_their_tensors_not_their_file(tmp_path: Path) -> None:
    model = ladder.build_model("convnext_32", num_classes=3, in_chans=1, depths=[1, 1, 1, 1], widths=[4, 4, 8, 8])
    state = model.state_dict()
    first, *others = state
    more = {"head.fc.bias": state["head.fc.bias"] + 1}
    fitting = [
        weights(tmp_path / "1", state, {"spec": "x", "about": "y"}),
        weights(tmp_path / "2", {name: state[name] for name in (*others, first)}, {"about": "another", "more": "z"}),
        weights(tmp_path / "3", {**state, **more}, {"spec": "x", "about": "y"}),
    ]
    names = [resolve(config(one)).label for one in fitting]
    assert names[0] == names[1] != names[2]
    a, b = torch.arange(6.0).reshape(2, 3), torch.ones(5, dtype=torch.int64)
    given = [
        weights(tmp_path / "a1", {"a": a, "b": b}, {"spec": "x", "about": "y"}),
        weights(tmp_path / "a2", {"b": b, "a": a}, {"about": "another", "more": "z"}),
        weights(tmp_path / "a3", {"a": a, "b": b + 1}, {"spec": "x", "about": "y"}),
        weights(tmp_path / "a4", {"a": a, "c": b}, {"spec": "x", "about": "y"}),
        weights(tmp_path / "a5", {"a": a.reshape(3, 2), "b": b}, {"spec": "x", "about": "y"}),
        weights(tmp_path / "a6", {"a": a.view(torch.int32), "b": b}, {"spec": "x", "about": "y"}),
    ]
    digests = [weights_digests(one.removeprefix("weights="))[0] for one in given]
    assert digests[0] == digests[1] and len(set(digests)) == 5
    (tmp_path / "7").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="no safetensors file"):
        resolve(config(f"weights={tmp_path / '7'}"))


def test_equal_networks_are_equal_files(tmp_path: Path) -> None:
    """The order of what a file says of itself was chance."""
    model = ladder.build_model("convnext_32", rung=0, num_classes=3, depths=[1, 1, 1, 1], widths=[4, 4, 8, 8])
    about = {"num_classes": 3, "in_chans": 3, "title": 'é"\\', "top1": float("nan")}
    files = [tmp_path / f"{n}.safetensors" for n in range(6)]
    for file in files:
        save_model(file, model, model.spec, about)
    assert len({file.read_bytes() for file in files}) == 1
    again = ladder.load_model(files[0])
    assert again.about == {**about, "top1": None}, "NaN is no JSON"
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


# --- images ----------------------------------------------------------------------------------------------------------


def folder(root: Path, **more: Any) -> list[str]:
    make_folder(root, **{"train": 4, "test": 2, **more})
    return [f"data.root={root}", "data=imagefolder", "data.loader=memory", "recipe.batch_size=4"]


def test_images_are_what_lies_in_their_folder_not_where_it_lies(tmp_path: Path) -> None:
    first = resolve(config(*folder(tmp_path / "A" / "images")))
    for where in (tmp_path / "B" / "images", tmp_path / "elsewhere"):
        assert resolve(config(*folder(where))).label == first.label
    assert resolve(config(*folder(tmp_path / "C"), "data.name=pets")).label == first.label, "a name changes no result"
    others = {
        "classes": folder(tmp_path / "D" / "images", classes=("ant", "cat")),
        "count": folder(tmp_path / "E" / "images", train=5),
        "evaluation": folder(tmp_path / "F" / "images", test=3),
        "size": folder(tmp_path / "G" / "images", size=(9, 8)),
    }
    names = {what: resolve(config(*given)).label for what, given in others.items()}
    assert len({first.label, *names.values()}) == 5, names
    held_out = [resolve(config(*given, "data.holdout=0.5")).label for given in (others["evaluation"], folder(tmp_path / "H"))]
    assert len(set(held_out)) == 1, "then the test folder is not read"


def test_a_folder_that_this_machine_does_not_see_is_told_by_its_path() -> None:
    runs = [resolve(config("data=imagefolder", f"data.root=/nowhere/{name}/images")) for name in "ab"]
    assert runs[0].label != runs[1].label and runs[0].content is not None and runs[0].content.digest is None


def test_a_set_known_by_name_is_its_name_if_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the runs of a study do not depend on how a set is stored, and a part of it is another set."""
    monkeypatch.setitem(content.SIZES, "cifar10", (8, 4, 2))
    whole = [f"data.root={make_folder(tmp_path / 'jpeg', train=4, test=2)}", "data=cifar10"]
    part = [f"data.root={make_folder(tmp_path / 'part', train=3, test=2)}", "data=cifar10"]
    by_name, stored, less = (resolve(config(*given)) for given in (["data=cifar10"], whole, part))
    assert by_name.label == stored.label != less.label
    assert [resolve(config(*given, "data.holdout=0.5")).content is None for given in (whole, part)] == [True, False]


def test_idx_files_of_another_number_are_another_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def idx(root: Path, count: int, first: int = 0) -> str:
        root.mkdir(exist_ok=True)
        for split in ("train", "t10k"):
            head = count.to_bytes(4, "big")
            (root / f"{split}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + head + bytes(8) + bytes(count))
            labels = bytes([first, *range(1, count)])
            (root / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01" + head + labels))
        return f"data.root={root}"

    monkeypatch.setitem(content.SIZES, "mnist", (5, 5, 5))
    mnist = ("data=fashion_mnist", "data.name=mnist")
    given = [idx(tmp_path / "whole", 5), idx(tmp_path / "less", 4), idx(tmp_path / "relabelled", 4, 3)]
    names = [resolve(config(*mnist, *more)).label for more in ([], *([one] for one in given))]
    assert names[0] == names[1] and len(set(names)) == 3


def test_shards_are_told_by_their_names_and_sizes(tmp_path: Path) -> None:
    def shards(root: Path, *sizes: int) -> list[str]:
        root.mkdir()
        for number, size in enumerate(sizes):
            (root / f"train-{number}.tar").write_bytes(bytes(size))
        return ["data=timm", "data.timm_name=wds/x", f"data.root={root}"]

    given = [shards(tmp_path / "a", 3, 4), shards(tmp_path / "b", 3, 4), shards(tmp_path / "c", 3, 5)]
    given += [["data=timm", "data.timm_name=wds/x", f"data.root={url}"] for url in ("s3://a", "s3://b")]
    names = [resolve(config(*one)).label for one in given]
    assert names[0] == names[1] and len(set(names)) == 4
    hub = [["data=timm", "data.timm_name=hfds/x/y", f"data.root={tmp_path / cache}"] for cache in "ab"]
    assert len({resolve(config(*one)).label for one in hub}) == 1, "there the root is a cache"


def test_a_large_split_is_told_by_all_names_and_some_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "SIZED", 4)
    root = make_folder(tmp_path / "set", train=20, test=1)
    asked: list[str] = []
    sizes = folders._sizes
    monkeypatch.setattr(folders, "_sizes", lambda paths: asked.extend(paths) or sizes(paths))
    before = folders.list_images(root / "train")
    assert before.digest and len(asked) == 4, "of 40"
    (root / "train" / "ant" / "019.png").rename(root / "train" / "ant" / "020.png")
    assert folders.list_images(root / "train").digest != before.digest
    for image in (root / "train").glob("*/*"):
        image.write_bytes(image.read_bytes() + b"\0")
    (root / "train" / "ant" / "020.png").rename(root / "train" / "ant" / "019.png")
    assert folders.list_images(root / "train").digest != before.digest, "all were written anew, in another size"


def test_a_link_to_a_folder_above_is_told(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    (root / "train" / "ant" / "again").symlink_to(root / "train")
    with pytest.raises(UserError, match="again is a link to a folder that holds it"):
        resolve(config("data=imagefolder", f"data.root={root}"))


def test_files_that_change_after_the_launch_are_told(tmp_path: Path) -> None:
    given = folder(tmp_path / "set")
    run = run_of(tmp_path, *given)
    shutil.copy(tmp_path / "set" / "train" / "ant" / "000.png", tmp_path / "set" / "train" / "ant" / "new.png")
    with pytest.raises(UserError, match="the files there have changed since this run was launched"):
        train(run)
    assert not run.dir.path.exists()
    again = run_of(tmp_path, *given)
    assert again.label != run.label and train(again).state == "done"
    result = json.loads((again.dir.path / "result.json").read_text())
    assert again.content is not None and result["data_content"] == again.content.digest
    assert yaml.safe_load((again.dir.path / "config.yaml").read_text())["data"]["content"] == again.content.digest


# --- folders of earlier versions -------------------------------------------------------------------------------------


def test_a_run_of_an_earlier_version_keeps_its_folder_if_it_is_of_these_images(tmp_path: Path) -> None:
    given = folder(tmp_path / "A" / "images")
    new = run_of(tmp_path, *given)
    old = new.older
    assert old is not None and old.label != new.label and not new.is_older
    assert train(old).state == "done"
    again = run_of(tmp_path, *given)
    assert again.label == old.label and again.is_older
    assert train(again).state == "skipped"
    (told,) = notes([(again, given)])
    assert "keep the names that an earlier version gave them" in told and "by a digest of their folder" in told

    other = run_of(tmp_path, *folder(tmp_path / "B" / "images", classes=("cat", "dog")))
    assert other.older is not None and other.older.label == old.label, "its hash held no images"
    (told,) = notes([(other, given)])
    assert f"is of other images (data.root={tmp_path / 'A' / 'images'})" in told and other.label in told

    (tmp_path / "A" / "images" / "test" / "ant" / "000.png").unlink()
    changed = run_of(tmp_path, *given)
    assert changed.label != old.label, "not these images any more"
    assert train(changed).state == "done"


def test_a_run_that_an_earlier_version_began_goes_on(tmp_path: Path) -> None:
    run = run_of(tmp_path, "rung=8", "spec.drop_path=0", "recipe.epochs=3")
    old = run.older
    assert old is not None, "the 0 was hashed as it was written"
    (child,) = start(old, tmp_path)
    wait_for(lambda: (old.dir.checkpoints / "last.pt").exists())
    kill([child])
    wait([child])
    again = run_of(tmp_path, "rung=8", "spec.drop_path=0", "recipe.epochs=3")
    assert again.label == old.label and train(again).state == "done"
    assert "resumed at" in (old.dir.path / "train.log").read_text()


def test_a_done_run_of_the_same_images_elsewhere_is_told(tmp_path: Path) -> None:
    there, here = folder(tmp_path / "A" / "images"), folder(tmp_path / "B" / "pictures")
    assert train(run_of(tmp_path, *there)).state == "done"
    run = run_of(tmp_path, *here)
    assert train(run).state == "skipped"
    (told,) = notes([(run, here)])
    assert f"trained from data.root={tmp_path / 'A' / 'images'}: the same data by a digest of its files" in told
    assert not notes([(run_of(tmp_path, *there), there)])
