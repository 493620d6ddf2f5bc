"""The media plane. One packet's way, in file order:

socket → ``plane`` (classify, unprotect, look up, cache, rewrite, protect, send) → what is not forwarded media comes up
to ``worker`` → ``transport`` (ICE-lite, DTLS) and ``rtcp`` → decisions in ``room`` go back down as routes and gates.
Below the plane's interface: ``plane_python`` (handles), ``plane_sockets``, ``plane_packets`` (the way of one packet),
``plane_streams`` (what came), ``plane_routes`` (what goes), on the cores ``rtp``, ``rtcp``, ``srtp``, ``codecs``,
``packet_cache`` and ``feedback``. Beside it: ``messages`` and ``bus`` (what control says and hears), ``negotiation``
(SDP), ``evidence`` and ``journal`` (how long media flowed), ``spool`` (the recorder's write-ahead log).
"""
