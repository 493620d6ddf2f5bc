import { CAMERA_WIDTH, MAX_BITRATE_BPS } from "./devices";
import type { Source } from "./wire";

/** Names of a camera's pictures, each half as wide as the next. */
const RIDS = ["q", "h", "f"] as const;
/** Their most bits, by how many there are: the smallest has to fit a thin line beside the voice. */
const MOST_BPS: readonly (readonly number[])[] = [
  [],
  [MAX_BITRATE_BPS.camera],
  [200_000, MAX_BITRATE_BPS.camera],
  [150_000, 500_000, MAX_BITRATE_BPS.camera],
];
/** Browsers send fewer encodings of a small picture: from this many pixels on three, or two. */
const PIXELS_THREE = 960 * 540;
const PIXELS_TWO = 480 * 270;

/** RTCRtpEncodingParameters as browsers have it (webrtc-svc is a document of its own). */
export type Encoding = RTCRtpEncodingParameters & { scalabilityMode?: string };

/**
 * What a source is sent as. A camera is sent several times at once (simulcast), so that the server can give every viewer
 * what their line takes; all are on at first. There is one layer of time, which has to be said: with more of them, a
 * browser does not wait for a lost packet of an upper one, but leaves its frame out.
 */
export function encodingsOf(source: Source): Encoding[] {
  if (source !== "camera") return [{ maxBitrate: MAX_BITRATE_BPS[source] }];
  const rids = RIDS.slice(CAMERA_WIDTH >= 960 ? 0 : 1);
  return rids.map((rid, index) => ({
    rid,
    maxBitrate: MOST_BPS[rids.length]?.[index] ?? MAX_BITRATE_BPS.camera,
    scaleResolutionDownBy: 2 ** (rids.length - 1 - index),
    scalabilityMode: "L1T1",
  }));
}

/** Adds a source to a connection; a browser that knows no layers of time is not told of them. */
export function addSource(pc: RTCPeerConnection, source: Source, stream: MediaStream): RTCRtpSender {
  const kind = source === "microphone" ? "audio" : "video";
  const sendEncodings = encodingsOf(source);
  try {
    return pc.addTransceiver(kind, { direction: "sendrecv", streams: [stream], sendEncodings }).sender;
  } catch {
    for (const encoding of sendEncodings) delete encoding.scalabilityMode;
    return pc.addTransceiver(kind, { direction: "sendrecv", streams: [stream], sendEncodings }).sender;
  }
}

/**
 * Makes the encodings suit a picture of this size, and what the server wants (null: all). Of a small picture the last
 * encodings would never be sent: the ones before take their place. Returns whether anything changed.
 */
export function fitEncodings(
  encodings: Encoding[],
  width: number,
  height: number,
  wanted: readonly string[] | null,
): boolean {
  const pixels = width * height;
  const count = Math.min(encodings.length, pixels >= PIXELS_THREE ? 3 : pixels >= PIXELS_TWO ? 2 : 1);
  const chosen = new Set<number>();
  encodings.forEach(({ rid }, index) => {
    if (wanted === null || wanted.includes(rid ?? "")) chosen.add(Math.min(index, count - 1));
  });
  let changed = false;
  encodings.forEach((encoding, index) => {
    const scaleResolutionDownBy = 2 ** Math.max(0, count - 1 - index);
    const maxBitrate = MOST_BPS[count]?.[Math.min(index, count - 1)] ?? MAX_BITRATE_BPS.camera;
    const fitting = { active: chosen.has(index), scaleResolutionDownBy, maxBitrate };
    for (const key of ["active", "scaleResolutionDownBy", "maxBitrate"] as const) {
      changed ||= encoding[key] !== fitting[key];
    }
    Object.assign(encoding, fitting);
  });
  return changed;
}
