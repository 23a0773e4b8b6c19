"""Training: one visible loop, checkpoints, schedules, and the record of a run."""
