"""The media plane. One packet's way, in file order:

socket → ``plane`` (classify, unprotect, look up, cache, rewrite, protect, send) → what is not forwarded media comes up
to ``worker`` → ``transport`` (ICE-lite, DTLS) and ``rtcp`` → decisions in ``room`` go back down as routes and gates.
Beside it: ``messages`` and ``bus`` (what control says and hears), ``negotiation`` (SDP), ``evidence`` and ``journal``
(how long media flowed), ``spool`` (the recorder's write-ahead log).
"""
