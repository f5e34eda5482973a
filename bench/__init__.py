"""The benchmark: Mailing beside the limits of the machine and beside its peers. `make bench`, or `bench.run --help`."""
