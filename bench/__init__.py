"""Measurements and load, run by hand or by make. Each prints JSON as its last line.

- ``machine``: what each of them runs on, told before it begins and kept with its figures.
- ``installation``: a fresh ``turnpike serve`` on a directory of its own.
- ``browser``: headless Chromium with a fake camera and microphone, and what it saw of a call.
- ``call``: one paid, recorded call through the app (``make call``).
- ``connect``: how many calls come about through bad networks, and how soon (``make bench-connect``).
- ``relay``: what forwarding a packet costs, whoever does it (``make bench-relay``).
- ``load``: how many whole calls a worker carries (``make bench-load``).
- ``native``: builds what sends and checks their media, ``flows.pyx``, and what forwards at least cost, ``floor.pyx``.
- ``person``: somebody signed in, with a socket.
- ``media_client``: a small client that does real ICE, DTLS and SRTP and knows what it sent and got.
"""
