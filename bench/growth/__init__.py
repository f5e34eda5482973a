"""The growth benchmark: what a message costs among ten thousand, and among ten million."""
