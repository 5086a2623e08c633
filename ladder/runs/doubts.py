"""Owns what makes a finished run doubtful: figures that a reader should not take for those of a trained network."""

from __future__ import annotations

import math

FELL = 0.9  # of the loss of a network that knows nothing: below it, training learnt something
CHANCE = 1.2  # times the top-1 of guessing


def doubts(
    *,
    top1: float | None,
    num_classes: int | None,
    train_loss: float | None,
    epochs: float | None,
    warmup_epochs: float | None,
) -> list[str]:
    """What is doubtful about a finished run, in words; nothing where nothing is. None: not known.

    `top1` in percent, `train_loss` in nats per image, both of the last epoch.
    """
    found = []
    if top1 is not None and num_classes and num_classes > 1 and train_loss is not None:
        knows_nothing = math.log(num_classes)
        if top1 <= CHANCE * 100 / num_classes and train_loss < FELL * knows_nothing:
            found.append(
                f"top-1 {top1:.2f} is that of guessing among {num_classes} classes, though the training loss fell to"
                f" {train_loss:.2f}: evaluation and training may not see the same images, or the network diverged late"
            )
    if warmup_epochs is not None and epochs is not None and warmup_epochs >= epochs:
        found.append(f"it ended within its warm-up of {warmup_epochs:g} epochs, before the learning rate was reached")
    return found
