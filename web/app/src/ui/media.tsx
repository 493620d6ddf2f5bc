import { useEffect, useRef } from "react";

/** Plays a stream's picture; always silent, its sound plays in `Sound`. */
export function Picture({
  stream,
  mirrored = false,
  className = "",
  label,
}: {
  stream: MediaStream;
  mirrored?: boolean;
  className?: string;
  label: string;
}) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (element.current !== null && element.current.srcObject !== stream) element.current.srcObject = stream;
    void element.current?.play().catch(() => undefined); // starts by itself once a track is in the stream
  }, [stream]);
  return (
    <video
      ref={element}
      className={`picture ${mirrored ? "mirrored" : ""} ${className}`}
      aria-label={label}
      autoPlay
      playsInline
      muted
    />
  );
}

/** Plays a stream's sound; tells when the browser wants a click first. */
export function Sound({
  stream,
  attempt,
  onBlocked,
}: {
  stream: MediaStream;
  attempt: number;
  onBlocked: (blocked: boolean) => void;
}) {
  const element = useRef<HTMLAudioElement>(null);
  useEffect(() => {
    const audio = element.current;
    if (audio === null) return;
    if (audio.srcObject !== stream) audio.srcObject = stream;
    audio.play().then(
      () => onBlocked(false),
      (thrown: unknown) => onBlocked(thrown instanceof DOMException && thrown.name === "NotAllowedError"),
    );
  }, [stream, attempt, onBlocked]);
  return <audio ref={element} autoPlay />;
}
