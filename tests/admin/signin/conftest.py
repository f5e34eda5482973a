from collections.abc import Iterator

import pytest

from support.identity_provider import running_provider


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with running_provider() as issuer:
        yield issuer
