"""The media plane.

One packet's way, in file order: a ``plane`` (classify, unprotect, look up, cache, rewrite, protect, send) forwards
media by itself and hands the rest up to ``port`` → ``transport`` (``ice``, ``dtls``), where pages connect, and to
``room_rtcp``, where they report and ask. What is decided there goes back down as streams, routes and gates. Below the
plane's interface: ``plane_python`` (handles), ``plane_sockets``, ``plane_packets`` (the way of one packet),
``plane_streams`` (what came), ``plane_routes`` (what goes), on the cores ``rtp``, ``rtcp``, ``srtp``, ``codecs``,
``packet_cache`` and ``feedback``. ``plane_native`` is all that once more in Cython; ``plane_choice`` says which runs.

One subscriber's bandwidth: what went out (``send_history``) and the page's feedback (``feedback_reader``) make an
estimate (``bandwidth``, of ``bandwidth_delay``, ``bandwidth_collapse``, ``bandwidth_loss`` with
``bandwidth_loss_probe``, and ``bandwidth_probe``; ``bandwidth_calm`` spares it most packets); no feedback at all says
something too (``feedback_silence``). ``allocator`` divides it, and ``room_bandwidth`` sees to it: layers, pauses, the
``pacer``, and REMB to publishers.

One picture's way: a track comes in one or several encodings (``published``), whose streams are told apart by their
first packets (``identify``); ``layers`` says which of them a subscriber gets and which of them rest, ``wiring`` does
it, and routes join them without a seam (``vp8_rewrite``).

One call's way: ``worker`` (``turns``: packets before all else) takes commands off the ``bus`` (``messages``;
``messages_status``) and gives them to ``rooms``; a ``room`` answers offers (``sdp``, ``negotiation``), connects its
participants (``participant``, ``wiring``), tells how long media flowed (``evidence``) and how well (``room_quality``,
``quality``, ``mos``) through ``room_events``, the ``outbox`` and the ``journal`` (``store``), and lets a ``recording``
(``room_recording``) write its media to the ``spool``, the recorder's write-ahead log.
"""
