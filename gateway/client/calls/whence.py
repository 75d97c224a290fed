"""Where a value of Dask's configuration stands, in words: a variable of the environment, a file, or
this program."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Mapping

import dask.config

_SUFFIXES = (".yaml", ".yml", ".json")


def variable(name: str) -> str:
    """Return the variable of the environment that sets a name of Dask's configuration."""
    return f"DASK_{name.replace('.', '__').replace('-', '_').upper()}"


def place(name: str, value: object) -> str:
    """Return in words where a value of Dask's configuration stands, with its name."""
    if variable(name) in os.environ:
        return f"the environment variable {variable(name)}"
    if file := _file(name, value):
        return f"{name} in the configuration file {file}"
    return f"{name} in Dask's configuration, set in this program"


def said(name: str) -> str:
    """Return what an error adds of a value of Dask's configuration: where it stands; empty where
    nothing is set, or nothing but a default of ours."""
    value = dask.config.get(name, None)
    if value is None or isinstance(value, Mapping):  # which several files may have a part in
        return ""
    if variable(name) in os.environ:
        return f"; it is set by the environment variable {variable(name)}"
    if file := _file(name, value):
        return f"; it is set in the configuration file {file}"
    defaults = any(_within(one, name) == value for one in dask.config.defaults)
    return "" if defaults else "; it is set in this program, in Dask's configuration"


def _file(name: str, value: object) -> pathlib.Path | None:
    """Return the configuration file that a value is from, None if it is from none."""
    for file in reversed(list(_files(dask.config.paths))):
        for found in dask.config.collect_yaml(paths=[str(file)]):
            if _within(found, name) == value:
                return file
    return None


def _files(paths: Iterable[str]) -> Iterable[pathlib.Path]:
    """Return Dask's configuration files, those that count more behind the others."""
    for path in map(pathlib.Path, paths):
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES)


def _within(config: object, name: str) -> object:
    for key in name.split("."):
        if not isinstance(config, Mapping):
            return None
        config = config.get(key, config.get(key.replace("-", "_")))
    return config
