"""`make demo` shows what it says it shows, and README.md quotes what it shows."""

import pytest

from tests.lab import demo


@pytest.fixture(scope="module")
def shown(lab):
    """Whether all was as it should be, and the transcript."""
    return demo.show(lab)


def test_the_demo_shows_what_it_says(shown):
    good, transcript = shown
    assert good, transcript


def test_readme_quotes_the_transcript(shown):
    """But for fingerprints, sizes and times. Where it does not: `make readme`, and read what has become another."""
    _, transcript = shown
    assert demo.settled(demo.quoted()) == demo.settled(transcript)


def test_a_transcript_that_has_changed_is_seen():
    """The control: a word more or less is no fingerprint, size or time."""
    old = demo.quoted()
    assert len(old.splitlines()) > 30
    for word, other in (("brought back", "taken back"), ("5 packages", "6 packages"), ("the configured key", "a key")):
        assert word in old and demo.settled(old.replace(word, other)) != demo.settled(old)
