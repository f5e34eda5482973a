from contextlib import AbstractAsyncContextManager
from pathlib import Path

from chaos.runner.failpoint_process import Orders
from chaos.runner.supervisor import ORDERS, Processes
from support.processes import Process


def test_each_of_two_orders_at_one_point_ends_a_process(tmp_path: Path) -> None:
    """Both were given while the first process was frozen."""
    processes = Processes(tmp_path, _no_process)
    orders = [processes.order("claim.after", of=["worker-1"], hits=hits) for hits in (1, 3)]
    first, second = (Orders("worker-1", tmp_path / ORDERS) for _ in orders)
    assert first.is_to_die("claim.after")
    assert [second.is_to_die("claim.after") for _ in range(4)] == [False, False, True, False]
    assert [kill.order for kill in processes.kills] == orders


def _no_process(*_arguments: object) -> AbstractAsyncContextManager[Process]:
    raise NotImplementedError
