"""Messages: their rows, and the statements that move them from state to state."""
