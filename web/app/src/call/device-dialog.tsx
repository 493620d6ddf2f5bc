import { asTurnpikeError, listDevices, type LocalTrack, type Session, type TurnpikeError } from "@turnpike/sdk";
import { useEffect, useState } from "react";

import { t } from "../locale";
import { Dialog } from "../ui/dialog";
import { Failure } from "../ui/feedback";
import { useLoad } from "../ui/load";

/** Chooses the microphone and camera; a change takes effect at once, without a new connection. */
export function DeviceDialog({ session, onClose }: { session: Session; onClose: () => void }) {
  const { data, reload } = useLoad(listDevices, []);
  useEffect(() => {
    navigator.mediaDevices?.addEventListener("devicechange", reload);
    return () => navigator.mediaDevices?.removeEventListener("devicechange", reload);
  }, [reload]);
  const { microphone, camera } = session.room.local;
  return (
    <Dialog title={t.call.devices} onClose={onClose} className="dialog-small">
      <Choice label={t.call.microphone} track={microphone} devices={data?.microphones ?? []} />
      {session.view.kind === "video" ? (
        <Choice label={t.call.camera} track={camera} devices={data?.cameras ?? []} />
      ) : null}
      <p className="hint">{t.call.shortcuts}</p>
    </Dialog>
  );
}

function Choice({ label, track, devices }: { label: string; track: LocalTrack; devices: readonly MediaDeviceInfo[] }) {
  const [error, setError] = useState<TurnpikeError | null>(null);
  const choose = async (id: string) => {
    setError(null);
    await track.setDevice(id).catch((thrown: unknown) => setError(asTurnpikeError(thrown)));
  };
  return (
    <>
      <label className="field">
        <span className="label">{label}</span>
        <select
          value={track.deviceId ?? ""}
          disabled={devices.length === 0}
          onChange={(event) => void choose(event.target.value)}
        >
          {devices.length === 0 ? <option value="">{t.call.noDevice}</option> : null}
          {devices.map((device, index) => (
            <option key={device.deviceId} value={device.deviceId}>
              {device.label || `${label} ${index + 1}`}
            </option>
          ))}
        </select>
      </label>
      {error === null ? null : <Failure error={error} />}
    </>
  );
}
