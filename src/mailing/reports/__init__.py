"""The daily report: which day is due, its figures, its mail, and its delivery."""
