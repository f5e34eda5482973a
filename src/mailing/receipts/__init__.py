"""What providers tell about messages: receipts, and replies from phones."""
