"""Measurements and load, run by hand or by make. Each prints JSON as its last line.

- ``installation``: a fresh ``turnpike serve`` on a directory of its own.
- ``browser``: headless Chromium with a fake camera and microphone, and what it saw of a call.
- ``call``: one paid, recorded call through the app (``make call``).
- ``connect``: how many calls come about through bad networks, and how soon (``make bench-connect``).
- ``media_client``: a small client that does real ICE, DTLS and SRTP and knows what it sent and got.
"""
