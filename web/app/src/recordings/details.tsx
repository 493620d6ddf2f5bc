import { useTurnpike } from "@turnpike/react";
import { asTurnpikeError, type AccessGrant, type RecordingView, type TurnpikeError } from "@turnpike/sdk";
import { useState } from "react";

import { bytes, clock, duration } from "../format";
import { t } from "../locale";
import { Link } from "../ui/button";
import { Failure } from "../ui/feedback";
import { saveText } from "../ui/save";

/** The streams with their hashes, the gaps, and where the rest of the story is. */
export function Details({ recording, grant }: { recording: RecordingView; grant: AccessGrant | null }) {
  const names = new Map(recording.participants.map((p) => [p.id, p.name]));
  const client = useTurnpike();
  const [error, setError] = useState<TurnpikeError | null>(null);
  /** As a file, not as a page: its address opens the recording, and does not belong into the browser's history. */
  const save = async (leave: AccessGrant) => {
    setError(null);
    try {
      const text = JSON.stringify(await client.recordings.manifest(leave), null, 2);
      saveText(text, `${recording.id}-manifest.json`, "application/json");
    } catch (thrown) {
      setError(asTurnpikeError(thrown));
    }
  };
  const gaps = recording.gaps.map((gap) => gap.to_ms - gap.from_ms);
  return (
    <section className="block" aria-labelledby="streams">
      <h2 id="streams">{t.recordings.streams}</h2>
      <div className="table-scroll">
        <table className="table">
          <thead>
            <tr>
              <th scope="col">{t.recordings.stream}</th>
              <th scope="col">{t.recordings.codec}</th>
              <th scope="col" className="number">
                {t.recordings.offset}
              </th>
              <th scope="col" className="number">
                {t.recordings.length}
              </th>
              <th scope="col" className="number wide-only">
                {t.recordings.size}
              </th>
              <th scope="col" className="wide-only">
                {t.recordings.hash}
              </th>
            </tr>
          </thead>
          <tbody>
            {recording.streams.map((stream) => (
              <tr key={stream.n}>
                <td>
                  {names.get(stream.participant_id) ?? stream.participant_id}
                  {stream.source === undefined ? null : (
                    <span className="cell-sub">{t.recordings.sources[stream.source] ?? stream.source}</span>
                  )}
                </td>
                <td className="soft">
                  {stream.video_codec ?? t.player.audioOnly}
                  {stream.width == null || stream.width === 0 ? "" : ` ${stream.width}×${stream.height}`}
                </td>
                <td className="number soft">{(stream.offset_ms / 1000).toFixed(1)} s</td>
                <td className="number">{clock(stream.duration_ms)}</td>
                <td className="number soft wide-only">{bytes(stream.bytes)}</td>
                <td className="soft wide-only">
                  <code title={stream.sha256 ?? undefined}>{stream.sha256?.slice(0, 16) ?? ""}</code>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {gaps.length === 0 ? null : (
        <p className="hint">{t.recordings.gaps(gaps.length, duration(Math.max(1_000, ...gaps)))}</p>
      )}
      <p className="hint detail-links">
        <span>
          {t.recordings.session}: <code>{recording.session_id}</code>
        </span>
        <Link to={`/sessions/${recording.session_id}`} className="link">
          {t.recordings.callPage}
        </Link>
        {grant === null ? null : (
          <button type="button" className="link-like" onClick={() => void save(grant)} data-testid="manifest">
            {t.recordings.manifest}
          </button>
        )}
      </p>
      {error === null ? null : <Failure error={error} />}
    </section>
  );
}
