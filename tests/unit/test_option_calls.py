"""How an administrator writes an option: what is misspelt is one sentence, a select's default is
its first choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.options import Bool, Float, Integer, Mapped, Select, Text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Integer("cores", min=1), "it takes no min, did you mean minimum?"),  # type: ignore[call-arg]
        (lambda: Float("hours", max=8.0), "it takes no max, did you mean maximum?"),  # type: ignore[call-arg]
        (lambda: Integer("cores", minimun=1), "it takes no minimun, did you mean minimum?"),  # type: ignore[call-arg]
        (lambda: Integer(field="cores"), "it takes no field, did you mean name?"),  # type: ignore[call-arg]
        (lambda: Select("size", options=["a"]), "it takes no options, did you mean choices?"),  # type: ignore[call-arg]
        (lambda: Text("text", target="image"), "it takes no target; it takes name, default,"),  # type: ignore[call-arg]
        (lambda: Bool("yes", defualt=True, per_grup=1), "no defualt, did you mean default?; it"),  # type: ignore[call-arg]
        (lambda: Text("text", min=1), "it takes no min; it takes"),  # type: ignore[call-arg]
        (lambda: Select("size"), "missing a required argument: 'choices'; it takes name, choices,"),  # type: ignore[call-arg]
        (lambda: Mapped(), "missing a required argument: 'name'"),  # type: ignore[call-arg]
        (lambda: Bool("b", True, "", "", False, 1), "too many positional arguments"),  # type: ignore[call-arg]
        (lambda: Integer("n", 1, default=2), "multiple values for argument 'default'"),  # type: ignore[misc]
    ],
)
def test_a_wrong_argument_is_told_with_what_was_meant(
    make: Callable[[], object], words: str
) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    assert words in str(caught.value)
    assert "__init__" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_default_of_a_select_is_its_first_choice() -> None:
    assert Select("size", ("small", "large")).default == "small"
    assert Select("size", ("small", "large"), "large").default == "large"
    made = Select("size", ("small", "large"))
    assert replace(made, label="Size") == Select("size", ("small", "large"), "small", "Size")
