"""What every process needs before it can do its work; imports nothing else of Turnpike.

Read in this order:

- ``settings``: every knob, read once from the environment.
- ``clock``: the two clocks, passed into every core that needs to know the time.
- ``ids``: the newtypes of the vocabulary, and opaque public ids.
- ``logs``: structured logs with session ids, secrets left out.
- ``identity``: roles, the signed-in ``Principal``, token signing and checking, passwords.
- ``database``: PostgreSQL with the tenant set in every transaction; ``migrate`` brings it up to date.
- ``keys``: the master key that wraps one data key per recording.
- ``objects``: the object store (a directory, or S3).
- ``http``: routes with checked bodies, roles and one error shape; ``openapi`` describes them.
- ``metrics``: one registry a process, served at ``/metrics``.
- ``connections``: Redis, as every process opens it.
- ``embedded``, ``embedded_postgres``, ``embedded_valkey``: real servers as children, where none is configured.
- ``launch``: what stands between this process and such a child, so that it dies with its parent.
- ``process``: living and dying together with the supervisor, ahead of others or behind them (``slices``).
"""
