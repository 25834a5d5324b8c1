"""Polling an account: what to ask the API, when, and what to keep."""
