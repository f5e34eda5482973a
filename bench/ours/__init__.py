"""Parts of Mailing, each measured in its own process."""
