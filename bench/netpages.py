"""What is injected into pages, and the page of the peer-to-peer control.

``DETOUR`` wraps RTCPeerConnection before the app's own code: the other side's first usable candidate is replaced by
the address of a gate of the proxy, all others and any TURN server are taken away, so that no packet finds another way.
``SAMPLER`` reads getStats of every connection ten times a second. The page's clock is Unix time in milliseconds.
"""

from __future__ import annotations

SAMPLE_MS = 100

DETOUR = """
(() => {
  const pcs = window.__pcs = [];
  const Native = window.RTCPeerConnection;
  const usable = (f) => f[2].toLowerCase() === 'udp' && /^\\d+\\.\\d+\\.\\d+\\.\\d+$/.test(f[4]);
  const detour = async (sdp) => {
    const lines = sdp.split(/\\r?\\n/);
    const all = lines.filter((l) => l.startsWith('a=candidate:')).map((l) => l.split(' '));
    if (all.length === 0) return sdp;
    const chosen = all.find((f) => usable(f) && f[4] === '127.0.0.1') ?? all.find(usable);
    if (chosen === undefined) throw new Error('no candidate that can be sent through the proxy: ' + all.join('; '));
    const [address, port] = await window.__gate(chosen[4], Number(chosen[5]));
    const out = [];
    for (const line of lines) {
      if (!line.startsWith('a=candidate:')) { out.push(line); continue; }
      const f = line.split(' ');
      if (f[4] !== chosen[4] || f[5] !== chosen[5] || !usable(f)) continue;
      f[4] = address; f[5] = String(port);
      out.push(f.join(' '));
    }
    return out.join('\\r\\n');
  };
  window.RTCPeerConnection = class RTCPeerConnection extends Native {
    constructor(config = {}, ...more) { super({ ...config, iceServers: [] }, ...more); pcs.push(this); }
    async setRemoteDescription(description) {
      const sdp = await detour(description.sdp);
      return super.setRemoteDescription({ type: description.type, sdp });
    }
    async addIceCandidate() {}
  };
})();
"""

SAMPLER = """
(() => {
  const samples = window.__samples = [];
  const PICK = {
    'outbound-rtp': ['ssrc', 'kind', 'rid', 'framesEncoded', 'keyFramesEncoded', 'frameWidth', 'frameHeight',
      'bytesSent', 'nackCount', 'pliCount', 'firCount', 'retransmittedPacketsSent', 'packetsSent',
      'qualityLimitationReason', 'targetBitrate', 'active', 'scalabilityMode', 'hugeFramesSent'],
    'inbound-rtp': ['ssrc', 'kind', 'framesDecoded', 'keyFramesDecoded', 'framesDropped', 'frameWidth', 'frameHeight',
      'bytesReceived', 'nackCount', 'pliCount', 'firCount', 'packetsLost', 'packetsReceived', 'packetsDiscarded',
      'retransmittedPacketsReceived', 'freezeCount', 'totalFreezesDuration', 'totalPausesDuration',
      'jitterBufferDelay', 'jitterBufferEmittedCount', 'concealedSamples', 'silentConcealedSamples',
      'totalSamplesReceived', 'framesReceived', 'fecPacketsReceived'],
    'candidate-pair': ['currentRoundTripTime', 'availableOutgoingBitrate', 'availableIncomingBitrate', 'nominated',
      'state', 'bytesSent', 'bytesReceived'],
  };
  const pick = (x, keys) => { const o = {}; for (const k of keys) if (x[k] !== undefined) o[k] = x[k]; return o; };
  const sample = async () => {
    const began = performance.now();
    const pcs = [];
    for (const [index, pc] of window.__pcs.entries()) {
      if (pc.connectionState === 'closed') continue;
      let report; try { report = await pc.getStats(); } catch { continue; }
      const seen = { pc: index, state: pc.connectionState, out: [], in: [], pair: null, codecs: [] };
      report.forEach((x) => {
        if (x.type === 'outbound-rtp') seen.out.push(pick(x, PICK[x.type]));
        else if (x.type === 'inbound-rtp') seen.in.push(pick(x, PICK[x.type]));
        else if (x.type === 'codec') seen.codecs.push(x.mimeType);
        else if (x.type === 'transport') {
          const pair = report.get(x.selectedCandidatePairId);
          if (pair) seen.pair = pick(pair, PICK['candidate-pair']);
        }
      });
      pcs.push(seen);
    }
    samples.push({ t: performance.timeOrigin + performance.now(), pcs });
    setTimeout(sample, Math.max(10, SAMPLE_MS - (performance.now() - began)));
  };
  sample();
})();
""".replace("SAMPLE_MS", str(SAMPLE_MS))

HAS_VIDEO = """
(frames) => {
  const last = window.__samples.at(-1);
  return !!last && last.pcs.some((pc) => pc.in.some((x) => x.kind === 'video' && x.framesDecoded > frames));
}
"""
"""Whether more than so many frames of the other side were decoded."""

HAS_WIDTH = """
(width) => {
  const last = window.__samples.at(-1);
  return !!last && last.pcs.some((pc) => pc.in.some((x) => x.kind === 'video' && x.frameWidth >= width));
}
"""
"""Whether the other side's picture arrives this wide."""

CONTROL_URL = "http://control.localhost/"
"""A name that browsers hold for this machine, so that the page may open camera and microphone; nobody listens there."""

CONTROL_PAGE = """<!doctype html><meta charset="utf-8"><title>Peer to peer</title>
<video autoplay playsinline style="width: 100%"></video>
<script>
const large = navigator.hardwareConcurrency >= 4;
const camera = { width: { ideal: large ? 1280 : 640 }, height: { ideal: large ? 720 : 480 },
  frameRate: { ideal: 30, max: 30 } };
const voice = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
let pc;

async function open() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: voice, video: camera });
  pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  pc.ontrack = ({ streams }) => { document.querySelector('video').srcObject = streams[0]; };
  return stream;
}

function prefer() {
  const vp8 = RTCRtpReceiver.getCapabilities('video').codecs.filter((c) => /VP8|rtx/i.test(c.mimeType));
  for (const t of pc.getTransceivers()) if (t.receiver.track.kind === 'video') t.setCodecPreferences(vp8);
}

async function described(description) {
  await pc.setLocalDescription(description);
  if (pc.iceGatheringState !== 'complete') {
    await new Promise((done) => pc.addEventListener('icegatheringstatechange',
      () => pc.iceGatheringState === 'complete' && done()));
  }
  return pc.localDescription.sdp;
}

async function offer() {
  const stream = await open();
  for (const [kind, maxBitrate] of [['audio', 40000], ['video', 1500000]]) {
    const track = stream.getTracks().find((t) => t.kind === kind);
    pc.addTransceiver(track, { direction: 'sendrecv', streams: [stream], sendEncodings: [{ maxBitrate }] });
  }
  prefer();
  return described(await pc.createOffer());
}

async function answer(sdp) {
  const stream = await open();
  await pc.setRemoteDescription({ type: 'offer', sdp });
  for (const t of pc.getTransceivers()) {
    await t.sender.replaceTrack(stream.getTracks().find((one) => one.kind === t.receiver.track.kind));
    t.sender.setStreams(stream);
    t.direction = 'sendrecv';
  }
  prefer();
  return described(await pc.createAnswer());
}

async function accept(sdp) { await pc.setRemoteDescription({ type: 'answer', sdp }); }
</script>
"""
"""Two of these talk to each other directly, with the same devices, codec and limits as the app, and no simulcast."""
