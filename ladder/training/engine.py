"""Owns the training loop: from a run to its last epoch, resumable at every step, bit for bit."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ladder.data import open_data
from ladder.errors import UserError, one_line
from ladder.networks.build import build_net, check_batch_of_one
from ladder.networks.pointwise import can_be_channels_last
from ladder.networks.weights import start_from
from ladder.runs import longer, predictions
from ladder.runs.doubts import doubts
from ladder.runs.folder import FORMAT
from ladder.runs.heartbeat import Heartbeat
from ladder.runs.outcome import STOPPED
from ladder.runs.resolve import Run
from ladder.runs.tracking import FINISH_TIMEOUT, Tracker, new_id, summary_of
from ladder.training import checkpoint, cpu, optim
from ladder.training.distributed import Ranks
from ladder.training.progress import Bar, Pace
from ladder.training.reporting import Reporter
from ladder.training.seeding import seed_torch

MIN_SAVE_INTERVAL = 5.0  # seconds: epochs shorter than this share a checkpoint
GO_ON, SAVE, STOP = range(3)  # what a rank may wish between two steps; the strongest wish counts
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Row = dict[str, float | int | None]


class Stopped(Exception):
    """The run was asked to stop; its state is saved."""


class NotFinite(UserError):
    """The loss, a gradient (the update was not made) or the last evaluation was NaN or infinite."""


class Engine:
    """Trains one run on the ranks it is given. `fit` does it all; everything else is a step of it."""

    def __init__(self, run: Run, ranks: Ranks, stop: Callable[[], bool]) -> None:
        self.run, self.ranks, self._stop_asked = run, ranks, stop
        self.log = logging.getLogger(__name__)
        self.recipe, self.options, self.device = run.recipe, run.engine, ranks.device
        self.folder = run.dir
        self._configure_torch()
        share = ranks.world * self.options.accumulate
        if self.recipe.batch_size % share:
            raise UserError(
                f"recipe.batch_size={self.recipe.batch_size}: must be a multiple of {share}"
                f" ({ranks.world} ranks x engine.accumulate={self.options.accumulate})"
            )
        self.micro_batch = self.recipe.batch_size // share
        self.recipe.check_pairs(self.micro_batch)
        if self.micro_batch == 1 and not (self.options.sync_batch_norm and ranks.world > 1):
            check_batch_of_one(run.spec, run.data.image_size, run.data.in_chans)
        self.data = open_data(
            run.data,
            self.recipe,
            seed=run.seed,
            micro_batch=self.micro_batch,
            accumulate=self.options.accumulate,
            device=self.device,
            rank=ranks.rank,
            world=ranks.world,
        )
        self._check_content()
        self._build()
        self.steps_per_epoch = self.data.steps_per_epoch
        self.schedule = optim.make_schedule(self.recipe, self.steps_per_epoch)

        self.epoch, self.step = 0, 0  # the next step to take: its epoch, and its number in that epoch
        self.history: list[Row] = []
        self.best: dict[str, float | int] = {}
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # of this epoch: loss * images, images
        self.train_seconds = 0.0  # of this epoch
        self.elapsed = 0.0  # wall seconds of all attempts before this one
        self.wandb_id = new_id()
        self.bad_step = torch.full((), -1, dtype=torch.int64, device=self.device)  # first step that was not finite
        self._begun = self._saved = time.monotonic()

    # ------------------------------------------------------------------------------------------------- building

    def _configure_torch(self) -> None:
        if self.options.threads is not None:
            torch.set_num_threads(self.options.threads)
        if self.device.type == "cpu":
            cpu.keep_memory()
        deterministic = self.options.deterministic
        if deterministic is None:
            deterministic = self.device.type == "cpu"
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = not deterministic
        torch.set_float32_matmul_precision("high" if self.device.type == "cuda" else "highest")  # high: TF32

    def _check_content(self) -> None:
        """Raise UserError where the images are no longer those that the run was asked for, and named by."""
        asked, found = self.run.content, self.data.info.content
        if asked is not None and None not in (asked.digest, found) and asked.digest != found:
            raise UserError(
                f"data.root={self.run.data.root}: the files there have changed since this run was launched; the same"
                " command starts a run of its own on those that are there now"
            )

    def _build(self) -> None:
        run, info = self.run, self.data.info
        seed_torch(run.seed)
        self.model = build_net(run.spec, num_classes=info.num_classes, in_chans=info.in_chans)
        if self.recipe.head_init_scale != 1.0:
            optim.scale_classifier(self.model, self.recipe.head_init_scale)
        if run.weights is not None:
            start_from(self.model, run.weights, info.num_classes)
        self.channels_last = self.options.channels_last
        if self.channels_last and self.device.type == "cpu":
            self.channels_last = can_be_channels_last(self.model, run.data.image_size, info.in_chans)
        if self.device.type == "cpu" and not self.options.compile:
            cpu.speed_up(self.model)  # after the line above, which reroutes what a faulty kernel would meet
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        self.model = self.model.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        if self.options.sync_batch_norm and self.ranks.world > 1:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        if self.options.checkpoint_activations:
            if not hasattr(self.model, "set_grad_checkpointing"):
                name = type(self.model).__name__
                raise UserError(f"engine.checkpoint_activations: {name} has no set_grad_checkpointing; allowed: false")
            self.model.set_grad_checkpointing(True)  # type: ignore[operator]
        self.parameters = list(self.model.parameters())
        self.optimizer = optim.make_optimizer(self.model, self.recipe, fused=self.options.fused_optimizer)
        self.ema = optim.make_ema(self.model, self.recipe)
        self.loss = optim.make_loss(self.recipe)
        self.mixup = optim.make_mixup(self.recipe, info.num_classes, micro_batch=self.micro_batch)
        # self.model stays the plain module: its state dict has no prefixes of compile or DDP
        self.forward: nn.Module = torch.compile(self.model) if self.options.compile else self.model  # type: ignore[assignment]
        if self.ranks.world > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            self.forward = DistributedDataParallel(self.forward, device_ids=ids)
        fp16 = self.options.precision == "fp16"
        # On a GPU the scaler also guards bf16 and float32 (at scale 1): it finds NaN and infinity in the gradients and
        # makes fused optimisers skip the update, all on the device.
        self.scaler = torch.amp.GradScaler(
            self.device.type,
            enabled=fp16 or self.device.type == "cuda",
            init_scale=2.0**16 if fp16 else 1.0,
            growth_interval=2000 if fp16 else 2**31 - 1,
        )

    # ------------------------------------------------------------------------------------------ state and resume

    def state(self) -> dict[str, Any]:
        """All that the run is at this moment. Random states are absent: every draw depends on (seed, epoch, step)."""
        return {
            "format": 1,
            "config_hash": self.run.config_hash,
            "epoch": self.epoch,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
            "history": self.history,
            "best": self.best,
            "sums": self.ranks.gather(self.sums),
            "train_seconds": self.train_seconds,
            "elapsed": self.elapsed + time.monotonic() - self._begun,
            "wandb_id": self.wandb_id,
        }

    def restore(self) -> bool:
        """Take up the newest checkpoint, or the last of a shorter run that this one goes on from; False without one."""
        state = checkpoint.load(self.folder.checkpoints, self.device, self.log.warning)
        if state is None:
            if (state := longer.start_of(self.run, self.device, self.log)) is None:
                return False
            state["wandb_id"] = self.wandb_id
        elif state["config_hash"] != self.run.config_hash:
            raise UserError(f"the checkpoint in {self.folder.path} is of another config: remove that folder")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.history, self.best = state["history"], state["best"]
        sums = state["sums"]  # a row a rank; another number of ranks than before: the total goes to the first
        if len(sums) == self.ranks.world:
            self.sums.copy_(sums[self.ranks.rank])
        elif self.ranks.is_main:
            self.sums.copy_(sums.sum(0))
        self.train_seconds, self.elapsed = state["train_seconds"], state["elapsed"]
        self.wandb_id = state["wandb_id"]
        return True

    def save(self) -> None:
        """Write a checkpoint, unless the weights may hold what a bad step left."""
        self._check_finite()
        state = self.state()  # on every rank: it gathers
        if self.ranks.is_main:
            checkpoint.save(self.folder.checkpoints, state)
        self._saved = time.monotonic()
        self.beat.tick()

    # ------------------------------------------------------------------------------------------------- the loop

    def fit(
        self,
        beat: Heartbeat,
        log: logging.Logger,
        describe: Callable[[], dict[str, Any]] = dict,
        explain: Callable[[Exception], str] = one_line,
    ) -> dict[str, Any]:
        """Train to the last epoch; returns `result.json`: what `describe()` says and how it went.

        W&B gets the same, and of a failure what `explain` makes of it, so that its runs say as much as the folders do.

        Raises:
            Stopped: asked to stop; saved.
            NotFinite: NaN or infinity, in a step (the checkpoint before stays) or in the last evaluation.
            OSError: the disk is full; the older checkpoint stays.
        """
        self.beat, self.status, self.log = beat, beat.status, log
        resumed = self.restore()
        self.status.top1 = next((row["top1"] for row in reversed(self.history) if row["top1"] is not None), None)
        if self.ranks.is_main:
            if resumed:
                log.info("resumed at epoch %d, step %d", self.epoch + 1, self.step)
            log.info("learning rate %g for a batch of %d", self.recipe.peak_lr, self.recipe.batch_size)
            if self.channels_last != self.options.channels_last:
                log.warning("trained with engine.channels_last=false: a kernel for CPUs is faulty in this network")
            if resumed:
                self.folder.write_metrics(self.history)
            if self.recipe.warmup_epochs >= self.recipe.epochs:
                self.log.warning("the run ends within its warm-up of %g epochs", self.recipe.warmup_epochs)
        self.status.epochs = self.recipe.epochs
        self.reporter = Reporter(
            self.status,
            Bar(self.recipe.epochs, self.steps_per_epoch) if self.ranks.is_main else None,
            Pace(self.recipe.batch_size, self.data.info.eval_size),
            steps_per_epoch=self.steps_per_epoch,
            eval_every=self.options.eval_every,
            networks=1 if self.ema is None else 2,
        )
        self.reporter.at(self.epoch, self.step)
        tracker = None
        try:
            if self.ranks.is_main:
                tracker = Tracker(self.run, self.wandb_id, self._untracked, self.status.attempts)
                for row in self.history:  # a killed process may not have handed over its last epochs
                    tracker.log(row)
            beat.write(durable=True)
            while self.epoch < self.recipe.epochs:
                self._train_epoch()
                row = self._finish_epoch()
                if tracker is not None:
                    tracker.log(row)
            result = (describe() if self.ranks.is_main else {}) | self._summary()
        except BaseException as error:
            if tracker is not None:
                stopped = isinstance(error, Stopped)  # a cluster that takes the node back does not wait
                failed = isinstance(error, Exception) and not stopped
                how = {"state": "failed", "error": explain(error)} if failed else {"state": "stopped"}  # type: ignore[arg-type]
                tracker.finish(STOPPED if stopped else 1, how, timeout=5 if stopped else FINISH_TIMEOUT)
            raise
        finally:
            self.reporter.close()
            self.data.close()
        if tracker is not None:
            tracker.finish(0, {"state": "done", **summary_of({"format": FORMAT, **result})})
        return result

    def _train_epoch(self) -> None:
        self.forward.train()
        batches = self.data.train_batches(self.epoch, self.step)
        self.reporter.begin_epoch()
        since = logged = time.monotonic()
        before, first = self.train_seconds, self.step
        while self.step < self.steps_per_epoch:
            now = time.monotonic()
            wish = STOP if self._stop_asked() else SAVE if now - self._saved > self.options.save_every else GO_ON
            if (agreed := self.ranks.max(wish)) != GO_ON:
                self.train_seconds = before + now - since
                self.save()
                if agreed == STOP:
                    raise Stopped
            self._train_step(batches)
            self.step += 1
            self.reporter.stepped(self.epoch, self.step)
            now = time.monotonic()
            if now - logged > self.options.log_every:
                logged = now
                self._check_finite()
                self.reporter.training((self.step - first) * self.recipe.batch_size / (now - since), self.sums)
        self._check_finite()  # waits for the device: the seconds below are those of finished work
        self.train_seconds = before + time.monotonic() - since

    def _train_step(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        index = self.epoch * self.steps_per_epoch + self.step
        self.schedule.apply(self.optimizer, index)
        seed_torch(self.run.seed, 1, self.epoch, self.step, self.ranks.rank)
        accumulate = self.options.accumulate
        for part in range(accumulate):
            images, labels = next(batches)
            if self.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            targets = labels
            if self.mixup is not None:
                key = (self.run.seed, self.epoch, self.step, self.ranks.rank, part)
                images, targets = optim.mixup_batch(self.mixup, images, labels, key)
            last = part == accumulate - 1
            quiet = contextlib.nullcontext() if last or self.ranks.world == 1 else self.forward.no_sync()  # type: ignore[operator]
            with quiet:
                with self._autocast():
                    loss = self.loss(self.forward(images), targets)
                self.scaler.scale(loss / accumulate if accumulate > 1 else loss).backward()
            found = loss.detach()  # an overflow of fp16 is not one; in other precisions the update tells of it
            count = torch.isfinite(found) * len(images) if self.options.precision == "fp16" else len(images)
            self.sums[0] += found.nan_to_num(0.0, 0.0, 0.0) * count
            self.sums[1] += count
            self.beat.tick()
        self._update(loss.detach())

    def _update(self, loss: Tensor) -> None:
        self.scaler.unscale_(self.optimizer)
        clip = self.recipe.clip_grad
        norm: Tensor | None = None
        if clip is not None or not self.scaler.is_enabled():
            grads = [p.grad for p in self.parameters if p.grad is not None]
            norm = nn.utils.get_total_norm(grads)
        index = self.epoch * self.steps_per_epoch + self.step
        bad = self._is_bad(loss, norm)
        if self.device.type == "cuda":  # remembered there, the first of them; `_check_finite` reads it when it is time
            self.bad_step = torch.where(bad & (self.bad_step < 0), index, self.bad_step)
        elif bad:
            raise self._not_finite(index)
        if clip is not None and norm is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.model)

    def _is_bad(self, loss: Tensor, norm: Tensor | None) -> Tensor:
        """Whether the loss or a gradient is not finite, and no smaller scale of the loss can help.

        In fp16 gradients overflow now and then: the scaler skips the update and halves its scale. At a scale of 1,
        which bf16 and float32 always have, it is no overflow of scaled gradients.
        """
        if norm is not None and not self.scaler.is_enabled():
            return ~torch.isfinite(norm + loss)
        state = self.scaler._per_optimizer_states[id(self.optimizer)]
        found = torch.stack(list(state["found_inf_per_device"].values()))
        scale = self.scaler._get_scale_async()
        assert scale is not None
        return torch.where(found.sum() > 0, scale <= 1, ~torch.isfinite(loss))

    def _check_finite(self) -> None:
        if self.device.type == "cuda":
            bad = int(self.bad_step.item())
            if bad >= 0:
                raise self._not_finite(bad)

    def _not_finite(self, step: int) -> NotFinite:
        scaled = ", with a loss scale of 1 as with all larger ones" if self.options.precision == "fp16" else ""
        return NotFinite(
            f"the loss or a gradient is not finite at step {step} (epoch {step // self.steps_per_epoch + 1}){scaled}:"
            f" stopped before the update; try a lower recipe.lr (applied {self.recipe.peak_lr:g}),"
            " recipe.clip_grad=1 or engine.precision=bf16"
        )

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.options.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.options.precision])

    # ---------------------------------------------------------------------------------------------- end of epoch

    def _finish_epoch(self) -> Row:
        """Evaluate where it is due, then make the epoch part of the record: checkpoint first, metrics after."""
        sums = self.ranks.sum(self.sums.clone()).tolist()
        if not sums[1]:
            raise self._not_finite((self.epoch + 1) * self.steps_per_epoch - 1)
        over = self.epoch + 1 == self.recipe.epochs
        due = over or (self.epoch + 1) % self.options.eval_every == 0
        figures: dict[str, float | None] = dict.fromkeys(("loss", "top1", "top5"))
        ema = None
        if due:
            seen: list[torch.Tensor] | None = [] if over else None
            figures |= self.evaluate(self.model, seen)
            if seen is not None:
                self._write_predictions(seen)
            ema = self.evaluate(self.ema.module)["top1"] if self.ema is not None else None
            for what, top1 in (("network", figures["top1"]), ("moving average", ema if self.ema is not None else 0.0)):
                if top1 is None:
                    self.log.warning("epoch %d: the %s evaluates to NaN or infinity", self.epoch + 1, what)
        row: Row = {
            "epoch": self.epoch + 1,
            "step": (self.epoch + 1) * self.steps_per_epoch,
            "train_loss": sums[0] / sums[1],
            "eval_loss": figures["loss"],
            "top1": figures["top1"],
            "top5": figures["top5"],
            "ema_top1": ema,
            "lr": self.schedule.lr((self.epoch + 1) * self.steps_per_epoch - 1),
            "images_per_s": sums[1] / self.train_seconds,
            "seconds": self.train_seconds,
        }
        self.history.append(row)
        top1 = figures["top1"]
        if top1 is not None and (not self.best or top1 > self.best["top1"]):
            self.best = {"top1": top1, "epoch": self.epoch + 1}
        self.epoch, self.step, self.train_seconds = self.epoch + 1, 0, 0.0
        self.sums.zero_()
        if self.ranks.max(int(over or time.monotonic() - self._saved > MIN_SAVE_INTERVAL)):
            self.save()
        if self.ranks.is_main:
            self.folder.write_metrics(self.history)
            loss, speed = sums[0] / sums[1], sums[1] / max(float(row["seconds"] or 0), 1e-9)
            self.reporter.end_epoch(self.epoch, loss, top1, speed)
            self.beat.write()
            evaluated = "" if top1 is None else f"eval loss {figures['loss']:.4f}  top-1 {top1:.2f}  "
            self.log.info(
                "epoch %d/%d  train loss %.4f  %s%.0f images/s",
                *(self.epoch, self.recipe.epochs, loss, evaluated, speed),
            )
        return row

    @torch.no_grad()
    def evaluate(self, model: nn.Module, seen: list[torch.Tensor] | None = None) -> dict[str, float | None]:
        """Mean loss, top-1 and top-5 (percent) over the whole evaluation split, each image once on one rank.

        None each where the loss is not finite: a rank among NaN says nothing.
        All ranks evaluate the network that is saved: rank 0's. Each has running statistics of its own batches.
        `seen` gets a (3, batch) tensor a batch of this rank: label, predicted class, probability of the label.
        """
        model.eval()
        self.ranks.share(model.buffers())
        sums = torch.zeros(4, dtype=torch.float64, device=self.device)
        began, images_seen = time.monotonic(), 0
        for images, labels in self.data.eval_batches():
            if self._stop_asked() and self.ranks.world == 1:
                self.save()  # the epoch is trained: a resumed run begins with this evaluation
                raise Stopped
            if self.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            with self._autocast():
                logits = model(images)
            logits = logits.float()
            best = logits.topk(min(5, logits.shape[1]), dim=1).indices
            ranked = best == labels[:, None]
            if seen is not None:
                probability = logits.softmax(1).gather(1, labels[:, None])[:, 0]
                seen.append(torch.stack([labels.double(), best[:, 0].double(), probability.double()]))
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
            sums += torch.stack([loss, ranked[:, 0].sum(), ranked.sum(), loss.new_tensor(float(len(labels)))]).double()
            images_seen += len(labels) * self.ranks.world
            self.reporter.evaluating(images_seen / max(self.data.info.eval_size, 1), time.monotonic() - began)
            self.beat.tick()
        self.reporter.evaluated(time.monotonic() - began)
        loss_sum, top1, top5, count = self.ranks.sum(sums).tolist()
        if not math.isfinite(loss_sum):
            return dict.fromkeys(("loss", "top1", "top5"))
        return {"loss": loss_sum / count, "top1": 100 * top1 / count, "top5": 100 * top5 / count}

    def _write_predictions(self, seen: list[torch.Tensor]) -> None:
        """Write what all ranks saw as one file. Before the last checkpoint, which then tells that it is there."""
        table = torch.cat(seen, dim=1) if seen else torch.empty(3, 0, dtype=torch.float64, device=self.device)
        count, images = table.shape[1], self.data.eval_images()
        images = images[:count] if count <= len(images) else range(count)  # a stream may not be as long as it says
        mine = torch.full((4, self.ranks.max(count)), -1.0, dtype=torch.float64, device=self.device)
        mine[0, :count] = torch.tensor(images, dtype=torch.float64)
        mine[1:, :count] = table
        parts = self.ranks.gather(mine).cpu().numpy()
        if self.ranks.is_main:
            predictions.make(list(parts), self.data.info.class_names).write(self.folder.path / predictions.FILE)

    # ------------------------------------------------------------------------------------------------- reporting

    def _untracked(self, message: str) -> None:
        """W&B's tracking is not as asked: for the log, and for who launched this."""
        self.log.warning(message)
        self.status.tracking = message

    def _summary(self) -> dict[str, Any]:
        last = self.history[-1]
        if (loss := last["eval_loss"]) is None or not math.isfinite(loss):
            raise NotFinite(
                "the trained network evaluates to NaN or infinity, so that it has no accuracy: try a lower recipe.lr"
                f" (applied {self.recipe.peak_lr:g}), recipe.clip_grad=1 or engine.precision=bf16"
            )
        speeds = sorted(float(row["images_per_s"] or 0) for row in self.history)
        return {
            "final": {k: last[k] for k in ("top1", "top5", "eval_loss", "train_loss", "ema_top1")},
            "best": self.best,
            "doubts": doubts(
                top1=last["top1"],
                num_classes=self.data.info.num_classes,
                train_loss=last["train_loss"],
                epochs=self.recipe.epochs,
                warmup_epochs=self.recipe.warmup_epochs,
            ),
            "steps": self.status.steps,
            "lr": self.recipe.peak_lr,
            "images_per_s": speeds[len(speeds) // 2],
            "wall_s": self.elapsed + time.monotonic() - self._begun,
        }
