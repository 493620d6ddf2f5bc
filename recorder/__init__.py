"""Recording, from the spool that a worker leaves on disk to what a compliance officer plays.

One recording, in file order: records of the ``relay.spool`` → ``pipeline`` (reads, in a thread) → ``part`` (all files
in order of arrival) → ``track`` (``sequence``: order; ``frames``, ``h264``, ``vp9``, ``av1``: packets to frames;
``timeline``: when a frame was taken) → ``lane`` (what goes into which file) → ``muxer`` and ``matroska`` (frames to
clusters, nothing decoded) → ``segments`` (a few seconds, sealed) → ``job`` (stores each, notes it in the ``store``) →
``finish`` (verifies all, makes it seekable) → ``manifest``. ``service`` runs the jobs; ``upkeep`` is what it does in
the spool's directories.

On the side of control: ``catalogue`` (consent, grants), ``search``, ``audit`` (who looked, and why), ``api`` with its
``views``, ``playback`` (any range of a stream, decrypted on the way out), ``media_api`` (what a grant opens) and
``verify``; ``consents`` and ``attestation`` (host platforms), ``own_api``, ``policies_api``, ``reports_api``.

What is made of a recording: ``jobs`` (what waits, and who works on it) → ``job_pool`` (a process for each) →
``job_work`` → ``compose_read`` (streams in step with one clock), ``compose``, ``captions``, ``preview``, or ``bundle``
(exports; ``bundles`` are those being downloaded) → ``products`` (sealed pieces, played like streams); ``leftovers`` of
attempts that came to nothing are deleted.
"""
