"""Fixtures: one lab a run, shared by all worker processes."""

import os

import pytest

from tests.lab import NEWEST, OLDEST, Session

LAB = "BINPKG_RESIGN_LAB"
_owned = []


def pytest_configure(config):
    """The first process makes the lab; workers find it in the environment."""
    if LAB not in os.environ:
        session = Session()
        os.environ[LAB] = str(session.path)
        _owned.append(session)


def pytest_unconfigure(config):
    """Ends the agents, removes the lab."""
    for session in _owned:
        session.close()
        os.environ.pop(LAB, None)


@pytest.fixture(scope="session")
def lab():
    """The session."""
    return Session(os.environ[LAB])


@pytest.fixture(scope="session", autouse=True)
def program(lab):
    """The program under test, which must be there."""
    assert os.access(lab.program, os.X_OK), f"{lab.program} is not there: run `make build`"
    return lab.program


@pytest.fixture(params=[NEWEST, OLDEST])
def portage(request):
    """Both Portage releases, one after the other."""
    return request.param
