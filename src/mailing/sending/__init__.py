"""Send messages: plan them, claim and call them, record the results, and repair what was left undone."""
