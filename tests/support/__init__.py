"""What tests of several folders share; each file says what belongs in it."""
