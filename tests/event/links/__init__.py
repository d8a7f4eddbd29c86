"""Tests of the links: one connection to a broker each."""
