"""The external SMS gateway: what an answer means, the call itself, and a fake one to practise on."""
