"""The ``gemstone`` command, on click.

Reading order: `main` (the table of commands), `faults` (exit codes, errors in one line), `output`
(results on terminals and in pipes), then a module for each group of commands.

A command's module is imported when the command runs, and the modules import what they need inside
their functions where that is slow: ``gemstone --help`` answers within a quarter of a second.
"""
