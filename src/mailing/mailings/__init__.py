"""Mailings: their life cycle, audience, send windows, and what an edit or a preview computes."""
