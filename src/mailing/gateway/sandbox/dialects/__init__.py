"""The providers' side of each API: what a provider receives, answers and reports.

`NAME.py` has the class `NameDialect`.
"""

from importlib import import_module

from mailing.gateway.sandbox.dialects.dialect import Dialect


def dialect_of(provider: str) -> Dialect:
    dialect: type[Dialect] = getattr(import_module(f"{__name__}.{provider}"), f"{provider.title()}Dialect")
    return dialect()


def base_path_of(provider: str) -> str:
    """Return the path of the address at which the sandbox is this provider."""
    return dialect_of(provider).base
