"""Learning an account: whom to ask, when, and what to keep."""
