"""The order of a parallel run, which decides how long it takes."""

from itertools import chain

from support.distribution import distribute

SLOW = [[f"slow {n}"] for n in range(7)] + [["slow a", "slow b", "slow c"]]
FAST = [[f"{module} {n}" for n in range(size)] for module, size in enumerate((30, 1, 50, 9, 20, 40, 3))]


def test_each_test_is_run_once() -> None:
    for workers in range(1, 9):
        assert sorted(distribute(SLOW, FAST, workers)) == sorted(chain(*SLOW, *FAST))


def test_each_worker_begins_with_its_share_of_slow_tests_and_ends_with_fast_ones() -> None:
    tests = list(distribute(SLOW, FAST, 2))
    for part in (tests[: len(tests) // 2], tests[len(tests) // 2 :]):
        slow = [place for place, test in enumerate(part) if test.startswith("slow")]
        assert slow[0] == 0
        assert len(slow) == 5
        assert slow[-1] < len(part) * 0.75


def test_no_slow_test_waits_behind_a_module_that_reaches_to_the_end() -> None:
    long = [f"long {n}" for n in range(100)]
    assert list(distribute(SLOW, [*FAST[:1], long], 1))[-100:] == long


def test_slow_tests_of_one_group_follow_each_other() -> None:
    tests = list(distribute(SLOW, FAST, 3))
    first = tests.index("slow a")
    assert tests[first : first + 3] == ["slow a", "slow b", "slow c"]


def test_more_slow_tests_than_fast_ones_are_distributed_too() -> None:
    assert sorted(distribute(SLOW, FAST[1:2], 4)) == sorted(chain(*SLOW, *FAST[1:2]))
    assert list(distribute([], [], 4)) == []
