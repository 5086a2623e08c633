"""Owns how the runs of a sweep are started, watched, retried and counted.

compose   from a job's overrides to its run, without composing every config in full
sweeper   Hydra's sweeper: the runs of a sweep, all of them checked before the first one starts
local     Hydra's launcher for one machine: which runs, on which GPUs or cores
pool      one process a run: starts it, watches it, survives whatever happens to it
child     what happens in that process
view      what the terminal shows meanwhile
study     study.json: which runs a study was asked for
"""
