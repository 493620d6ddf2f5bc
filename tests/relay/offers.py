"""Offers as browsers write them, shortened to the codecs that matter here."""

from __future__ import annotations

_LINES = """\
v=0
o=- 8929608754177005736 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1 2
a=extmap-allow-mixed
a=msid-semantic: WMS 49f35925-0eb9-4b55-8013-7e1b2ffd0b1f
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:O95z
a=ice-pwd:Vy87v3PAKKTuEb4NhQruJoth
a=ice-options:trickle
a=fingerprint:sha-256 14:17:E9:57:E4:68:25:A6:5A:CD:E6:DE:53:86:2F:BC:61:01:D9:45:45:B4:A7:1E:DB:A3:58:86:B9:29:69:D4
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=sendrecv
a=msid:49f35925-0eb9-4b55-8013-7e1b2ffd0b1f bac506ff-e8fe-425a-b6a2-9fef9c2655e0
a=rtcp-mux
a=rtcp-rsize
a=rtcp-xr:rcvr-rtt=all
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:0 PCMU/8000
a=ssrc:877081429 cname:KAnAFQWRKZp3Hmq6
a=ssrc:877081429 msid:49f35925-0eb9-4b55-8013-7e1b2ffd0b1f bac506ff-e8fe-425a-b6a2-9fef9c2655e0
m=video 9 UDP/TLS/RTP/SAVPF 96 97 108 109
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:O95z
a=ice-pwd:Vy87v3PAKKTuEb4NhQruJoth
a=ice-options:trickle
a=fingerprint:sha-256 14:17:E9:57:E4:68:25:A6:5A:CD:E6:DE:53:86:2F:BC:61:01:D9:45:45:B4:A7:1E:DB:A3:58:86:B9:29:69:D4
a=setup:actpass
a=mid:1
a=extmap:14 urn:ietf:params:rtp-hdrext:toffset
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:13 urn:3gpp:video-orientation
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay
a=extmap:6 http://www.webrtc.org/experiments/rtp-hdrext/video-content-type
a=extmap:7 http://www.webrtc.org/experiments/rtp-hdrext/video-timing
a=extmap:8 http://www.webrtc.org/experiments/rtp-hdrext/color-space
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id
a=sendrecv
a=msid:49f35925-0eb9-4b55-8013-7e1b2ffd0b1f 323f122b-be67-45ac-b870-86337a38c5b4
a=rtcp-mux
a=rtcp-rsize
a=rtcp-xr:rcvr-rtt=all
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 goog-remb
a=rtcp-fb:96 transport-cc
a=rtcp-fb:96 ccm fir
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:108 H264/90000
a=rtcp-fb:108 goog-remb
a=rtcp-fb:108 transport-cc
a=rtcp-fb:108 ccm fir
a=rtcp-fb:108 nack
a=rtcp-fb:108 nack pli
a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:109 rtx/90000
a=fmtp:109 apt=108
a=ssrc-group:FID 659961879 2537296032
a=ssrc:659961879 cname:KAnAFQWRKZp3Hmq6
a=ssrc:659961879 msid:49f35925-0eb9-4b55-8013-7e1b2ffd0b1f 323f122b-be67-45ac-b870-86337a38c5b4
a=ssrc:2537296032 cname:KAnAFQWRKZp3Hmq6
a=ssrc:2537296032 msid:49f35925-0eb9-4b55-8013-7e1b2ffd0b1f 323f122b-be67-45ac-b870-86337a38c5b4
m=video 9 UDP/TLS/RTP/SAVPF 96 97 108 109
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:O95z
a=ice-pwd:Vy87v3PAKKTuEb4NhQruJoth
a=ice-options:trickle
a=fingerprint:sha-256 14:17:E9:57:E4:68:25:A6:5A:CD:E6:DE:53:86:2F:BC:61:01:D9:45:45:B4:A7:1E:DB:A3:58:86:B9:29:69:D4
a=setup:actpass
a=mid:2
a=extmap:14 urn:ietf:params:rtp-hdrext:toffset
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:13 urn:3gpp:video-orientation
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay
a=extmap:6 http://www.webrtc.org/experiments/rtp-hdrext/video-content-type
a=extmap:7 http://www.webrtc.org/experiments/rtp-hdrext/video-timing
a=extmap:8 http://www.webrtc.org/experiments/rtp-hdrext/color-space
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id
a=sendrecv
a=msid:- ef5ed15f-fe25-4025-9427-3c457a10b1fa
a=rtcp-mux
a=rtcp-rsize
a=rtcp-xr:rcvr-rtt=all
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 goog-remb
a=rtcp-fb:96 transport-cc
a=rtcp-fb:96 ccm fir
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:108 H264/90000
a=rtcp-fb:108 goog-remb
a=rtcp-fb:108 transport-cc
a=rtcp-fb:108 ccm fir
a=rtcp-fb:108 nack
a=rtcp-fb:108 nack pli
a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:109 rtx/90000
a=fmtp:109 apt=108
a=ssrc-group:FID 2127846020 1957973155
a=ssrc:2127846020 cname:KAnAFQWRKZp3Hmq6
a=ssrc:2127846020 msid:- ef5ed15f-fe25-4025-9427-3c457a10b1fa
a=ssrc:1957973155 cname:KAnAFQWRKZp3Hmq6
a=ssrc:1957973155 msid:- ef5ed15f-fe25-4025-9427-3c457a10b1fa
"""

CHROMIUM = _LINES.replace("\n", "\r\n")
"""Chromium 156: microphone, camera, and a screen that is not shared yet."""

_CAMERA_SSRCS = [line for line in _LINES.splitlines() if "659961879" in line or "2537296032" in line]
_SIMULCAST_LINES = "a=rid:q send\na=rid:h send\na=rid:f send\na=simulcast:send ~q;h;f"

SIMULCAST = _LINES.replace("\n".join(_CAMERA_SSRCS), _SIMULCAST_LINES).replace("\n", "\r\n")
"""The same with a camera of three encodings, the smallest paused: its SSRCs are not announced."""
