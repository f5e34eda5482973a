"""What each entry point loads, in a process of its own: a command starts no faster than its imports."""

import subprocess
import sys

import pytest

# Everything that costs more than click itself to load. Only what is named beside an entry point may be loaded there.
HEAVY = {
    *("litestar", "advanced_alchemy", "sqlalchemy", "asyncpg", "alembic", "procrastinate", "psycopg"),
    *("aiohttp", "httpx", "uvicorn", "uvloop", "asyncio", "importlib.metadata", "structlog", "rich", "msgspec"),
    *("jinja2", "babel", "aiosmtplib", "argon2", "joserfc", "cryptography", "prometheus_client", "opentelemetry"),
}
COMMAND = {"asyncio", "uvloop", "structlog", "msgspec"}  # the event loop, the log and the settings
DATABASE = COMMAND | {"sqlalchemy", "asyncpg", "importlib.metadata", "argon2"}
SERVING = HEAVY - {*("alembic", "procrastinate", "psycopg", "rich"), *("aiohttp", "httpx", "joserfc", "opentelemetry")}
SENDING = DATABASE | {"procrastinate", "psycopg", "aiohttp"}

RUN = """
import sys
from mailing.cli.main import main
try:
    main()
except SystemExit:
    pass
print("loaded:", *sys.modules)
"""
IMPORT = """
import importlib, sys
importlib.import_module(sys.argv[1])
print("loaded:", *sys.modules)
"""


def loaded(program: str, *arguments: str) -> set[str]:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return HEAVY & set(done.stdout.rpartition("loaded:")[2].split())


@pytest.mark.parametrize(
    ("arguments", "may"),
    [
        (["--help"], {"msgspec"}),
        (["--version"], {"msgspec", "importlib.metadata"}),
        (["nope"], {"msgspec"}),
        (["sandbox", "--help"], COMMAND | {"aiohttp"}),
        (["key", "list", "--help"], DATABASE | {"rich"}),
        (["user", "list", "--help"], DATABASE | {"rich"}),
        (["worker", "--help"], COMMAND),
        (["worker", "--health"], COMMAND),
    ],
)
def test_a_command_loads_no_more_than_it_needs(arguments: list[str], may: set[str]) -> None:
    assert loaded(RUN, *arguments) <= may


@pytest.mark.parametrize(
    ("module", "may"),
    [
        ("mailing.worker", SENDING),
        ("mailing.cli.up", COMMAND),  # it starts its children before it loads more
        ("mailing.app", SERVING),
    ],
)
def test_a_process_loads_no_more_than_it_needs(module: str, may: set[str]) -> None:
    assert loaded(IMPORT, module) <= may


INTERRUPTED = """
import sys
module, sys.argv[1:] = sys.argv[1], ["up"]
class Interrupting:
    def find_spec(self, name, *_):
        if name == module:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from mailing.__main__ import run
run()
"""


@pytest.mark.parametrize("module", ["mailing.cli", "click", "msgspec", "mailing.cli.up", "mailing.process.local_stack"])
def test_ctrl_c_while_a_module_loads_leaves_no_traceback(module: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", INTERRUPTED, module], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "\nAborted!\n")
