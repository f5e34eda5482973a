from fuzz.attack import attack
from fuzz.run import report
from mailing.settings import Settings


def test_no_case_of_a_short_fuzz_run_contradicts_the_documentation(settings: Settings) -> None:
    """`make fuzz` is the long one."""
    findings = attack(settings, examples=2, seed=1)
    assert not findings.failures, report(findings, seconds=0, seed=1)
    assert findings.cases.keys() == {"examples", "coverage", "fuzzing", "stateful"}
    assert findings.cases.total() > 1000
