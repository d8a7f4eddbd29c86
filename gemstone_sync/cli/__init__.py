"""The ``gemstone`` command, on click. Each command is in the file of its name.

`main` has the table of commands. What several of them need: `options` (parameters, credentials,
time limits), `remote` (services and registries as clients), `target` (the service that
``module:Class`` names), `service_command` (which hands options on to it), `brokers`, `output`
(results on terminals and in pipes). What one needs: `reload` for `run`, `load` for `bench`,
`shell_services` for `shell`.

A command's module is imported when the command runs, and the modules import what they need inside
their functions where that is slow: ``gemstone --help`` answers within a quarter of a second.

For all commands that call
--------------------------

Parameters are `name=text`, `name:=JSON` (`times:=3`, `tags:='["a"]'`), or by position, `--args
'[1, 2]'`. `call` and `call_raw` tell on stderr, in three lines that begin with `[!]`, how long
finding the service and the call took, and that the result follows; `--json` spares them. The
result alone goes to stdout: in colours on a terminal (unless `NO_COLOR` is set), one line of JSON
in a pipe or with `--json`. `--token` or `GEMSTONE_TOKEN` is sent as X-Api-Token; `--header
'Authorization: Bearer …'` sends any other credentials. `--cacert` (or `SSL_CERT_FILE`,
`REQUESTS_CA_BUNDLE`), `--cert` and `--key` are curl's.

Exit codes: 0 fine, 1 the remote said no, 2 usage (or stdout cannot be written), 3 cannot connect,
130 Ctrl-C, but 0 where that is the way to end it (`run`, `registry`, `listen`). An error is one
line on stderr, with `--json` as JSON. What would steer a terminal is shown escaped.
"""
