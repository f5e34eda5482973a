"""A gateway to practise on: it speaks the contract, fails on demand, and remembers what it accepted."""

from mailing.gateway.sandbox.behaviour import Behaviour
from mailing.gateway.sandbox.dialects import base_path_of
from mailing.gateway.sandbox.server import running, serve

__all__ = ["Behaviour", "base_path_of", "running", "serve"]
