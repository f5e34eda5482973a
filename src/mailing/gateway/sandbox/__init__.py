"""A gateway to practise on: it speaks the contract, fails on demand, and remembers what it accepted."""
