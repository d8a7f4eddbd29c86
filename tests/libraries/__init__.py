"""Users' libraries and objects in a method: rows, the programs that use them, and what runs these.

`rows` declares each once; `programs/` holds a program each; `peers` is what they talk to; `running`
starts a service around them in each order of imports and way to run; `test_libraries` asserts what
`matrix` prints.
"""
