import { TurnpikeError } from "./errors";
import type { Source } from "./wire";

/** Fewer cores: a smaller picture, so that encoding never starves the sound. */
const PICTURE =
  (globalThis.navigator?.hardwareConcurrency ?? 2) >= 4
    ? { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } }
    : { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30, max: 30 } };

/** How wide a picture the camera is asked for. */
export const CAMERA_WIDTH = PICTURE.width.ideal;

const VOICE = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

export const MAX_BITRATE_BPS: Record<Source, number> = { microphone: 40_000, camera: 1_500_000, screen: 2_500_000 };

const NAMES: Record<Source, string> = { microphone: "microphone", camera: "camera", screen: "screen" };

/** Opens one source. Rejects with `<source>_denied`, `<source>_missing`, `<source>_busy` or `<source>_failed`. */
export async function capture(source: Source, deviceId: string | null): Promise<MediaStreamTrack> {
  try {
    const stream = await open(source, deviceId);
    const track = stream.getTracks()[0];
    if (track === undefined) throw new DOMException("no track", "NotFoundError");
    if (source === "screen") track.contentHint = "detail";
    return track;
  } catch (thrown) {
    throw deviceError(source, thrown);
  }
}

/** Opens microphone and camera behind one permission prompt; null for the one that can't be had, with the reason. */
export async function captureBoth(
  microphoneId: string | null,
  cameraId: string | null,
): Promise<{ microphone: MediaStreamTrack | TurnpikeError; camera: MediaStreamTrack | TurnpikeError }> {
  try {
    const stream = await media({
      audio: constraints("microphone", microphoneId),
      video: constraints("camera", cameraId),
    });
    const [microphone] = stream.getAudioTracks();
    const [camera] = stream.getVideoTracks();
    if (microphone !== undefined && camera !== undefined) return { microphone, camera };
  } catch {
    // One of the two can't be had: find out which, and go on with the other.
  }
  const each = (source: "microphone" | "camera", id: string | null): Promise<MediaStreamTrack | TurnpikeError> =>
    capture(source, id).catch((error: unknown) => error as TurnpikeError);
  return { microphone: await each("microphone", microphoneId), camera: await each("camera", cameraId) };
}

export interface DeviceList {
  microphones: MediaDeviceInfo[];
  cameras: MediaDeviceInfo[];
}

/** The microphones and cameras of this machine; labels are empty before permission was given. */
export async function listDevices(): Promise<DeviceList> {
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return {
    microphones: all.filter((d) => d.kind === "audioinput"),
    cameras: all.filter((d) => d.kind === "videoinput"),
  };
}

function constraints(source: Source, deviceId: string | null): MediaTrackConstraints {
  const base = source === "microphone" ? VOICE : PICTURE;
  return deviceId === null ? base : { ...base, deviceId: { exact: deviceId } };
}

function open(source: Source, deviceId: string | null): Promise<MediaStream> {
  if (source === "microphone") return media({ audio: constraints(source, deviceId) });
  if (source === "camera") return media({ video: constraints(source, deviceId) });
  if (navigator.mediaDevices?.getDisplayMedia === undefined)
    throw new DOMException("no screen capture", "NotFoundError");
  return navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 15, max: 30 } }, audio: false });
}

function media(wanted: MediaStreamConstraints): Promise<MediaStream> {
  if (navigator.mediaDevices === undefined) throw new DOMException("insecure page", "SecurityError");
  return navigator.mediaDevices.getUserMedia(wanted);
}

function deviceError(source: Source, thrown: unknown): TurnpikeError {
  const cause = thrown instanceof DOMException ? thrown.name : "";
  const name = NAMES[source];
  switch (cause) {
    case "NotAllowedError":
    case "SecurityError":
      return new TurnpikeError(`${source}_denied`, `The browser does not allow this page to use the ${name}.`);
    case "NotFoundError":
    case "OverconstrainedError":
      return new TurnpikeError(`${source}_missing`, `No ${name} was found.`);
    case "NotReadableError":
      return new TurnpikeError(`${source}_busy`, `Another program is using the ${name}.`);
    default:
      return new TurnpikeError(`${source}_failed`, `The ${name} could not be started.`);
  }
}
