"""How a configuration file is read, strictly: an unknown name or a wrong value is one clear error,
never passed over.

Shared by server and edge; knows neither. Values are traitlets configuration: `c.Class.trait =
value`.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import math
import pathlib
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

import traitlets
from traitlets import CaselessStrEnum
from traitlets.config import Config, Configurable
from traitlets.config.loader import PyFileConfigLoader
from traitlets.traitlets import TraitError

from gateway import former_names
from gateway.custody import file_problem

MAX_DEPTH = 20  # of values in values that are looked at

DEFAULT_FILE = "daskgateway_config.py"
# parts of the names of settings that nobody else is to see
SECRETS = ("password", "token", "secret", "users")


class LogLevel(CaselessStrEnum[str]):
    """A level of logging, in letters of any size; WARN is WARNING."""

    def __init__(self, default: object = traitlets.Undefined, **more: Any) -> None:
        super().__init__(["DEBUG", "INFO", "WARNING", "ERROR"], default, **more)

    def validate(self, obj: Any, value: Any) -> str:
        """Return the level as logging calls it; TraitError for one that there is not."""
        if isinstance(value, str) and value.upper() == "WARN":
            value = "WARNING"
        return super().validate(obj, value)


_INNER = re.compile(r"expected <traitlets\.\S+ object at \w+>, not the \w+ ['\"](.+)['\"]\.?$")
_TRAIT = re.compile(r"^The (value of the )?'\w+' trait of an? \w+ instance ")


class ConfigurationError(Exception):
    """The configuration cannot be used; the text says where and what would be right, on one line a
    problem."""


def load(path: str | None, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of a file (None: `daskgateway_config.py` here, if there is one) and
    of `--Class.trait=value` words."""
    config = Config()
    if path is None and pathlib.Path(DEFAULT_FILE).exists():
        path = DEFAULT_FILE
    if path is not None:
        config.merge(_read(pathlib.Path(path)))
    config.merge(from_words(overrides))
    return config


def unread(path: str | None, words: Sequence[str]) -> str:
    """Return that nothing was read, and where a file was looked for; empty if one was named, or
    found, or words say what is set. Of dask-gateway's file it tells what is to be done."""
    if path is not None or words or pathlib.Path(DEFAULT_FILE).exists():
        return ""
    told = f"no file was read, since there is no {DEFAULT_FILE} in {pathlib.Path.cwd()}"
    if pathlib.Path(former_names.DEFAULT_FILE).exists():
        return (
            f"{told}; {former_names.DEFAULT_FILE} is dask-gateway's: copy it to {DEFAULT_FILE}, and"
            " see what of it is called otherwise here"
        )
    return f"{told}; -f names another"


def from_words(words: Sequence[str]) -> Config:
    """Return the configuration that `--Class.trait=value` words alone say."""
    config = Config()
    for word in words:
        _override(config, word)
    return config


def _read(path: pathlib.Path) -> Config:
    if not path.is_file():
        raise ConfigurationError(
            f"{path}: there is no such file; `daskgateway generate-config` writes one"
        )
    if wrong := file_problem(path, secret=False):  # it is a program, and would be run
        raise ConfigurationError(wrong)
    try:
        return PyFileConfigLoader(path.name, path=str(path.parent.resolve())).load_config()
    except SyntaxError as error:
        raise ConfigurationError(f"{path}, line {error.lineno}: {error.msg}") from None
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(sys.exc_info()[2])
            if frame.filename.endswith(path.name)
        ]
        where = f", line {lines[-1]}" if lines else ""
        told = f"{type(error).__name__}: {error}{former_names.imported(error)}"
        raise ConfigurationError(f"{path}{where}: {told}") from None


def _override(config: Config, word: str) -> None:
    name, equals, text = word.removeprefix("--").partition("=")
    section, dot, trait = name.partition(".")
    if not (word.startswith("--") and equals and dot and section[:1].isupper() and trait):
        raise ConfigurationError(
            f"{word:.100}: settings on the command line look like --Class.trait=value"
        )
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    config[section][trait] = value


def problems(config: Config, classes: Iterable[type[Configurable]]) -> list[str]:
    """Return what is wrong with a configuration for these classes, one line each."""
    return sifted(config, classes)[1]


def sifted(config: Config, classes: Iterable[type[Configurable]]) -> tuple[Config, list[str]]:
    """Return what of a configuration is right in itself, and what is wrong with the rest, one line
    each."""
    known = {cls.__name__: cls for cls in classes}
    right, found = Config(), []
    for section, values in config.items():
        if section not in known:
            found += _no_class(section, values, known)
            continue
        traits = known[section].class_traits(config=True)
        for name, value in values.items():
            if name not in traits:
                hint = former_names.here(section, name) or meant(name, traits)
                if name == "authenticator_class":
                    hint = former_names.authenticator(value)
                found.append(f"c.{section}.{name}: {section} has no such setting{hint}")
            elif wrong := _wrong_value(known[section], section, name, value):
                found.append(wrong)
            else:
                right[section][name] = value
    return right, found


def _no_class(section: str, values: object, known: Iterable[str]) -> list[str]:
    """Return that a class does not exist; of dask-gateway's, what each of its settings is here."""
    names = values if isinstance(values, Config) else ()  # c.lower.name is no section
    former = {name: hint for name in names if (hint := former_names.here(section, name))}
    if not former:
        return [f"c.{section}: there is no such class{meant(section, known)}"]
    return [f"c.{section}.{name}: there is no such class{hint}" for name, hint in former.items()]


def _wrong_value(cls: type[Configurable], section: str, name: str, value: object) -> str:
    alone = Config()
    alone[section][name] = value
    try:
        taken = getattr(cls(config=alone), name)
    except Exception as error:  # a trait's own check may raise anything for what it never expected
        return f"c.{section}.{name}: {_told(error, name, value)}"
    if not _finite(taken):
        return f"c.{section}.{name}: numbers must be finite, not {value!r:.100}"
    return ""


def _told(error: Exception, name: str, value: object) -> str:
    """Return what an error says in one line, without the value where that is a secret."""
    words = " ".join(str(error).split()) or type(error).__name__
    if inner := _INNER.search(words):  # of a list's element, whose own trait has no name
        words = f"must hold values, one of which is wrong: {inner[1].rstrip('.')}"
    if not isinstance(error, TraitError):
        words = f"{type(error).__name__}: {words}"
    return words.replace(repr(value), "…") if _is_secret(name) else words


def plain(error: TraitError) -> str:
    """Return what an error says of a value alone, without the trait and the class."""
    return _TRAIT.sub("", " ".join(str(error).split())).rstrip(".")


def _finite(value: object, depth: int = 0) -> bool:
    """Whether no number in a value is NaN or infinite, which bounds do not catch."""
    if depth > MAX_DEPTH:
        return True
    if isinstance(value, dict):
        return all(_finite(item, depth + 1) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return all(_finite(item, depth + 1) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def meant(name: str, known: Iterable[str]) -> str:
    """Return the name that may be meant, else those there are; to be put behind a complaint."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else "; there are " + ", ".join(sorted(known))


def check(config: Config, classes: Iterable[type[Configurable]]) -> None:
    """Raise ConfigurationError with every problem."""
    found = problems(config, classes)
    if found:
        raise ConfigurationError("\n".join(found))


def _summary(cls: type) -> str:
    """Return the first paragraph of a class's docstring, in one line."""
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


def template(classes: Iterable[type[Configurable]]) -> str:
    """Return a configuration file with every setting commented out, with its help and default."""
    parts = [
        "# Configuration of daskgateway. Every setting is shown with its default; take off the #"
        " to change one.",
        "",
        "from gateway.options import Bool, Float, Integer, Mapped, Select, Text  # noqa: F401",
        "",
        "c = get_config()  # noqa: F821",
        "",
    ]
    for cls in classes:
        parts += [
            f"# {'-' * 76}",
            f"# {cls.__name__}: {_summary(cls)}",
            f"# {'-' * 76}",
            "",
        ]
        for name, trait in sorted(cls.class_traits(config=True).items()):
            parts += [f"# {line}" for line in str(trait.help).strip().splitlines()]
            parts += [f"# c.{cls.__name__}.{name} = {_default(cls, name)}", ""]
    return "\n".join(parts)


def _default(cls: type[Configurable], name: str) -> str:
    """Return a default as it is written, so that the line loads; one that is made when it is needed
    is that of this account on this machine."""
    trait = cls.class_traits()[name]
    if hasattr(cls, f"_{name}_default"):
        return literal(getattr(cls(), name))
    return str(trait.default_value_repr())


def literal(value: object) -> str:
    """Return a value as Python that makes it; of dataclasses only what differs from their
    defaults."""
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return repr(value)
    words: list[str] = []
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        made = field.default_factory
        usual = made() if made is not dataclasses.MISSING else field.default
        if usual is dataclasses.MISSING or held != usual:
            words.append(f"{field.name}={held!r}" if words else repr(held))
    return f"{type(value).__name__}({', '.join(words)})"


def _is_secret(trait: str) -> bool:
    return (
        any(word in trait for word in SECRETS)
        and not trait.endswith("_file")
        and not trait.startswith("max_")
    )


def exposed(path: str | None) -> str:
    """Return what secrets a configuration file tells that others can read; an empty text if none,
    or nobody else can."""
    file = pathlib.Path(path or DEFAULT_FILE)
    if not file.is_file() or not (wrong := file_problem(file, secret=True)):
        return ""
    told = [
        f"c.{section}.{trait}"
        for section, values in _read(file).items()
        for trait in values
        if _is_secret(trait)
    ]
    return f"{wrong}, or put {', '.join(sorted(told))} elsewhere: they are secrets" if told else ""


def shown(config: Config, instances: Iterable[Configurable]) -> str:
    """Return every setting as it holds now, one a line; secrets are not shown."""
    lines = []
    for instance in instances:
        section = type(instance).__name__
        for name in sorted(type(instance).class_traits(config=True)):
            value = getattr(instance, name)
            secret = _is_secret(name)
            origin = "" if name in config.get(section, {}) else "  # default"
            lines.append(f"c.{section}.{name} = {'…' if secret and value else repr(value)}{origin}")
    return "\n".join(lines)
