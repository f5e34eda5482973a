"""Engine, connections, clock, migrations."""
