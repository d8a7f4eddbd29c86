"""Patches the process when it is imported: ``import gemstone_sync.patch`` as the first line.

A service does so by itself; this is for those who like it to be seen. gevent's own way, ``from
gevent import monkey; monkey.patch_all()`` as the first line, is as good.

When a program is patched
-------------------------

Importing `gemstone_sync` patches nothing. The first use of a service-side name (`MicroService`,
`exposed_method`, …) applies gevent's monkey patch, ahead of everything that the program imports:

- A program that by then has imported anything but the standard library, or made a lock,
  thread-local, queue or executor, is started over, once, in the same process with the same
  command, environment and descriptors, and patched before its first line. So locks, thread-locals
  (SQLAlchemy's `scoped_session`), executors and clients that modules make are cooperative,
  wherever the imports stand. A module that names `MicroService` is started over where it imports
  `gemstone_sync`: have that among the imports, and nothing but imports runs twice. It costs the
  time of these imports.
- That cannot be inside a function, in tests and at a prompt, under a debugger, profiler or
  coverage, with `python -I`, `-E` or `-S`, when child processes or a gevent hub exist already, or
  when the module above has read stdin, changed its directory, or written a file or past stdout's
  buffer (what is still in there is written once). The process is patched late then: direct
  references (`from time import sleep`) are mended in modules that were imported earlier, and so
  are TLS contexts, and locks, thread-locals, queues and executors that nobody uses just then,
  wherever they are kept. Warnings name what stays native: your objects that are in use, sockets,
  selectors, classes that derive from `threading.local` or `socket.socket`, and running threads.
  If a native lock ever stops the process, an ERROR on the logger `gemstone_sync.blocked` says
  where, with the stack (on Linux).
- Beside an event loop (IPython, a notebook's kernel, an asyncio loop that runs by then) nothing
  is patched, for that would stop it: services have a thread each there, calls of one do not
  overlap, and Ctrl-C (interrupt the kernel) ends `start()`. At Python's own prompt, calls do
  overlap, and what `start(block=False)` has started answers while the prompt waits.
- `import gemstone_sync.patch` as a program's first line patches there and then, as gevent's own
  `from gevent import monkey; monkey.patch_all()` does. `gemstone run` and our gunicorn worker
  patch before they import anything of yours.
- In the environment, `GEMSTONE_MONKEY_PATCH=late` starts nothing over, and `=0` patches nothing:
  calls do not overlap then.
"""

from .concurrency import host, patch
from .errors import ServiceConfigurationError

if (_beside := host()) is not None:
    raise ServiceConfigurationError(
        f"a patch would stop the event loop of {_beside}: services work beside it without, each "
        "in a thread of its own"
    )
patch()
