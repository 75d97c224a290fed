"""What `generate-config` writes loads, line by line, and says what holds anyway."""

from __future__ import annotations

import pathlib
import re

import pytest
from click.testing import CliRunner

from gateway import configfile
from gateway.__main__ import main
from gateway.authenticators.password import check_password
from gateway.server.boot.settings import known_classes

BACKENDS = "--DaskGateway.backends=['local', 'slurm', 'pbs', 'yarn', 'noop']"
SETTING = re.compile(r"# (c\.([A-Z]\w*)\.(\w+) = .*)")


def generated() -> str:
    """Return a generated file."""
    return CliRunner().invoke(main, ["generate-config", BACKENDS]).output


def test_every_line_loads_and_is_the_default(tmp_path: pathlib.Path) -> None:
    """A default that is made when it is needed was written as `traitlets.Undefined`."""
    classes = {cls.__name__: cls for cls in known_classes(configfile.from_words([BACKENDS]))}
    text = generated()
    head = text[: text.index("# ---")]
    lines = SETTING.findall(text)
    assert len(lines) > 150
    for line, section, name in lines:
        path = tmp_path / "one.py"
        path.write_text(f"{head}\n{line}\n")
        path.chmod(0o600)
        config = configfile.load(str(path))
        assert configfile.problems(config, classes.values()) == []
        cls = classes[section]
        assert getattr(cls(config=config), name) == getattr(cls(), name), line


def test_the_whole_file_loads_when_every_line_is_taken_in(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "all.py"
    path.write_text(SETTING.sub(r"\1", generated()))
    path.chmod(0o600)
    classes = known_classes(configfile.from_words([BACKENDS]))
    assert configfile.problems(configfile.load(str(path)), classes) == []


def test_an_existing_file_is_replaced_only_when_told_to(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "made.py"
    path.write_text("mine")
    refused = CliRunner().invoke(main, ["generate-config", "-o", str(path)])
    assert refused.exit_code == 2
    assert "File exists; --force replaces it" in refused.output
    assert path.read_text() == "mine"
    assert CliRunner().invoke(main, ["generate-config", "--force", "-o", str(path)]).exit_code == 0
    assert "get_config()" in path.read_text()
    assert CliRunner().invoke(main, ["generate-config", "--force", "-o", "/proc/x"]).exit_code == 2


@pytest.mark.parametrize("sent", ["wonderland\n", "wonderland", "wonderland\r\n", "wonderland\nx"])
def test_a_password_is_hashed_from_standard_input(sent: str) -> None:
    done = CliRunner().invoke(main, ["hash-password", "--stdin"], input=sent)
    assert done.exit_code == 0
    assert check_password("wonderland", done.output.strip())


@pytest.mark.parametrize(
    ("words", "sent", "said"),
    [
        (["--stdin"], b"", "a password must have 1 to 1024 bytes"),
        (["--stdin"], b"\n", "a password must have 1 to 1024 bytes"),
        (["--stdin"], b"\xff\xfe", "no text in UTF-8"),
        (["--stdin"], b"x" * 2000, "a password must have 1 to 1024 bytes"),
        (["--stdin", "--password", "x"], b"y", "not both"),
        (["--password", ""], b"", "a password must have 1 to 1024 bytes"),
    ],
)
def test_what_is_no_password_is_one_line(words: list[str], sent: bytes, said: str) -> None:
    done = CliRunner().invoke(main, ["hash-password", *words], input=sent)
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.splitlines()) == 1


def test_the_edge_logs_as_the_server_does_unless_told_otherwise() -> None:
    from traitlets.config import Config

    from gateway.server.boot.settings import examine
    from gateway.server.edge.words import configured_words, own_words

    def told(**sections: dict[str, object]) -> list[str]:
        found = examine(Config(sections)).settings
        return [
            word for word in [*configured_words(found), *own_words(found, 1)] if "log_level" in word
        ]

    assert told() == ["--Proxy.log_level='INFO'"]
    assert told(DaskGateway={"log_level": "ERROR"}) == ["--Proxy.log_level='ERROR'"]
    assert told(DaskGateway={"log_level": "ERROR"}, Proxy={"log_level": "DEBUG"}) == [
        "--Proxy.log_level='DEBUG'"
    ]
