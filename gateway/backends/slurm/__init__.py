"""Schedulers and workers as jobs of Slurm."""

from gateway.backends.slurm.backend import SlurmBackend

__all__ = ["SlurmBackend"]
