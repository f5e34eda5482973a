"""Other ways to do the same work, each as well as its library allows, in a process of its own."""
