import pytest
from msgspec.structs import replace

from mailing.settings import Settings
from support.roles import url_as

pytestmark = pytest.mark.slow


def test_no_case_of_a_short_fuzz_run_contradicts_the_documentation(settings: Settings) -> None:
    """`make fuzz` is the long one. What the API's own role may not do would be a 500."""
    from fuzz.attack import attack  # noqa: PLC0415 - loads schemathesis, which no other process needs
    from fuzz.run import report  # noqa: PLC0415 - as above

    restricted = replace(settings, database_url=url_as("mailing_api", str(settings.database_url)))
    findings = attack(restricted, examples=2, seed=1)
    assert not findings.failures, report(findings, seconds=0, seed=1)
    assert findings.cases.keys() == {"examples", "coverage", "fuzzing", "stateful"}
    assert findings.cases.total() > 1000
