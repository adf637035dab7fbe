"""What a user types becomes a checked configuration, and the configuration says when a window needs no further pass."""

import pytest

from scanner.cli.options import OPTIONS, ScanRequest
from scanner.config import SynConfig, config_of
from scanner.errors import UsageError
from scanner.verdict.loss import Bound, Estimate

VERBS = ("syn", "connect")


def typed(verb: str, **texts: str) -> SynConfig:
    """The configuration of a verb from options as they are typed; each must be an option of the verb."""
    assert texts.keys() <= OPTIONS[verb].keys()
    return config_of(ScanRequest(verb, texts).given)


MISSED = {
    # typed → (expected missed responders, responders found, whether two passes are enough)
    "1%": [(0.5, 100, True), (1.5, 100, False), (1.5, 1000, True), (0.5, 10, False), (0.005, 0, True), (0.5, 0, False)],
    "0.5": [(0.4, 10, True), (0.4, 1000, True), (0.6, 10, False), (0.6, 1000, False)],
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("text", MISSED)
def test_a_share_follows_the_responders_and_a_number_does_not(verb: str, text: str) -> None:
    bound = typed(verb, max_missed=text).bound
    for missed, responders, enough in MISSED[text]:
        assert bound.reached(2, Estimate(missed, 0.1), responders) is enough, (missed, responders)


BOUNDS = {"1%": Bound(11, 1.0, 0.01), "250%": Bound(11, 1.0, 2.5), "0.01": Bound(), "3": Bound(11, 3.0)}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("text", BOUNDS)
def test_the_bound_of_max_missed(verb: str, text: str) -> None:
    assert typed(verb, max_missed=text).bound == BOUNDS[text]


REFUSED = {
    "0": "--max-missed 0 must be above 0",
    "0%": "--max-missed: a percentage must be above 0",
    "-1%": "--max-missed: a percentage must be above 0",
    "nan": "--max-missed nan must be above 0",
    "nan%": "--max-missed: a percentage must be above 0",
    "few": "--max-missed 'few' is not a number such as 0.01, or a percentage such as 1%",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_bound_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(UsageError) as error:
        typed("syn", max_missed=text)
    assert str(error.value) == REFUSED[text]
