"""The benchmark: Mailing, the limits of the machine and its peers. `make bench`, or `bench.run --help`."""
