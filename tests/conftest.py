"""Owns what holds for all tests: no GPU, and no deadline for what one example of hypothesis may take."""

from __future__ import annotations

import os

from hypothesis import settings

# before torch looks: a process that forked after it used autograd beside a GPU can't use it
os.environ["CUDA_VISIBLE_DEVICES"] = ""
settings.register_profile("patient", deadline=None)  # a shared machine stalls
settings.load_profile("patient")
