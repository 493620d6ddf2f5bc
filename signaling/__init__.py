"""Sessions, and everything that people and pages say to the server. One session's way, in file order:

``messages`` and ``server_events`` (what clients say and hear) → ``sockets`` and ``api`` take a wish in → ``director``
carries it out: ``lifecycle`` says what may follow what, ``store`` makes it durable, ``rooms`` talks to the workers →
``announcer`` tells both sides through ``events`` (``numbering`` keeps them, ``fanout`` reaches the sockets) →
``shards`` reads the workers' evidence, drives billing's meter, and lets ``following`` do what happens by itself (media,
money, deadlines, dead workers) → ``closing`` closes the room and settles. Beside it: ``kinds`` (another kind in
mid-call), ``timeline``, ``connection_history``, ``presence``, ``chat``, ``people``, ``views``, ``limits``, ``away``,
``demo``. ``assembly`` puts the parts together, ``application`` mounts them, ``control`` runs them; ``web`` and
``openapi`` serve the app and the description. ``cli``, ``serve``, ``supervisor``, ``installation`` and ``info`` run all
roles on one machine.
"""
