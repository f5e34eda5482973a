"""Other implementations of the same work, each as fast as its library allows, each in its own process."""
