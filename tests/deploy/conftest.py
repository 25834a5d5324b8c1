"""What the tests of ways to deploy share: the image, and a network for what runs of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy import image as images
from tests.deploy.image import Image
from tests.support import sandbox as sandboxes
from tests.support.sandbox import Network


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Image:
    """The image of deploy/Dockerfile, built once for all workers."""
    sandboxes.require()
    return images.shared(tmp_path_factory.getbasetemp().parent / f"image-{testrun_uid}")


@pytest.fixture
def network() -> Iterator[Network]:
    """A network of the test's own, with nothing but a loopback interface: any port is free."""
    sandboxes.require()
    with sandboxes.network() as made:
        yield made
