"""Owns how the runs of a sweep are started, watched, retried and counted.

compose     from a job's overrides to its run, without composing every config in full
sweeper     Hydra's sweeper: the runs of a sweep, all of them checked before the first one starts
base        what all launchers share: which runs are to do, the summary
jobs        the books of a launch: attempts, outcomes, runs that another launcher has, Ctrl-C
view        what the terminal shows meanwhile
study       study.json: which runs a study was asked for

local       this machine: which share of it each run gets
  pool        one process a run: starts it, watches it, survives whatever happens to it
  fork_preload  what the fork server of these processes imports
  child       what happens in such a process
watch       clusters: sends runs there, follows their folders, judges what ended
  task        what happens in a process there
slurm       what a job asks for
  slurm_queue   job arrays, the queue, how a job ended
  slurm_task    what happens in a job: save in time, requeue, leave a word
ray         tasks of Ray
"""
