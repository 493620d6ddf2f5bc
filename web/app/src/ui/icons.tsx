/** The app's own icons: 20 × 20, one stroke width. Decorative: the control around them carries the name. */
const paths = {
  microphone:
    "M10 2.5a2.5 2.5 0 0 0-2.5 2.5v5a2.5 2.5 0 0 0 5 0V5A2.5 2.5 0 0 0 10 2.5ZM4.5 9.5a5.5 5.5 0 0 0 11 0M10 15v2.5",
  microphoneOff:
    "M7.5 7.5V10a2.5 2.5 0 0 0 4 2M12.5 9V5a2.5 2.5 0 0 0-4.9-.7M4.5 9.5a5.5 5.5 0 0 0 8.6 4.5M15.5 9.5a5.4 5.4 0 0 1-.6 2.5M10 15v2.5M3 3l14 14",
  camera:
    "M2.5 6.5a1.5 1.5 0 0 1 1.5-1.5h7a1.5 1.5 0 0 1 1.5 1.5v7a1.5 1.5 0 0 1-1.5 1.5H4a1.5 1.5 0 0 1-1.5-1.5ZM12.5 8.7l5-2.7v8l-5-2.7",
  cameraOff:
    "M7.5 5H11a1.5 1.5 0 0 1 1.5 1.5V9l5-3v8l-2-1.2M12.5 13.2v.3A1.5 1.5 0 0 1 11 15H4a1.5 1.5 0 0 1-1.5-1.5v-7A1.5 1.5 0 0 1 4 5M3 3l14 14",
  screen:
    "M3.5 4h13a1 1 0 0 1 1 1v8a1 1 0 0 1-1 1h-13a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1ZM7 17h6M10 11.5V7M7.8 9 10 6.8 12.2 9",
  chat: "M4 4h12a1.5 1.5 0 0 1 1.5 1.5v7A1.5 1.5 0 0 1 16 14H9l-4 3v-3H4a1.5 1.5 0 0 1-1.5-1.5v-7A1.5 1.5 0 0 1 4 4ZM6.5 8h7M6.5 10.8h4.5",
  hangUp:
    "M2.6 12.2c-.5-1.5.2-3 1.7-3.8a12.3 12.3 0 0 1 11.4 0c1.5.8 2.2 2.3 1.7 3.8l-.2.6a1 1 0 0 1-1.2.6l-2.6-.7a1 1 0 0 1-.7-.9l-.1-1.7a8.5 8.5 0 0 0-5.2 0l-.1 1.7a1 1 0 0 1-.7.9l-2.6.7a1 1 0 0 1-1.2-.6Z",
  phone:
    "M4.2 3.5h2.3a1 1 0 0 1 1 .8l.5 2.4a1 1 0 0 1-.3.9L6.4 8.9a11 11 0 0 0 4.7 4.7l1.3-1.3a1 1 0 0 1 .9-.3l2.4.5a1 1 0 0 1 .8 1v2.3a1 1 0 0 1-1 1A12.5 12.5 0 0 1 3.2 4.5a1 1 0 0 1 1-1Z",
  settings: "M3 6h8M15 6h2M3 14h2M9 14h8M13 4.2v3.6M7 12.2v3.6",
  close: "m5 5 10 10M15 5 5 15",
  send: "M3.5 10 3 3.5 17 10 3 16.5 3.5 10Zm0 0H10",
  play: "M6 4.2v11.6a.6.6 0 0 0 .9.5l9.2-5.8a.6.6 0 0 0 0-1L6.9 3.7a.6.6 0 0 0-.9.5Z",
  pause: "M6.5 4v12M13.5 4v12",
  back10: "M4 4v4h4M4.5 8A6.5 6.5 0 1 1 3.6 12",
  ahead10: "M16 4v4h-4M15.5 8a6.5 6.5 0 1 0 .9 4",
  lock: "M5.5 9h9a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1h-9a1 1 0 0 1-1-1v-6a1 1 0 0 1 1-1ZM7 9V6.5a3 3 0 0 1 6 0V9M10 12v2",
  check: "m4 10.5 4 4 8-9",
  alert: "M10 3 2.5 16.5h15ZM10 8v4M10 14.2v.1",
  wallet:
    "M3 6.5A1.5 1.5 0 0 1 4.5 5H15v3M3 6.5V15a1.5 1.5 0 0 0 1.5 1.5H16a1 1 0 0 0 1-1V9a1 1 0 0 0-1-1H4.5A1.5 1.5 0 0 1 3 6.5ZM13.5 12.2h.1",
  people:
    "M7.5 9.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM2 16.5a5.5 5.5 0 0 1 11 0M13 3.8a3 3 0 0 1 0 5.4M15 12a5.5 5.5 0 0 1 3 4.5",
  list: "M3 5h14M3 10h14M3 15h9",
  film: "M3.5 4h13a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1h-13a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1ZM8.5 7.5v5l4-2.5Z",
  server:
    "M4 3.5h12a1 1 0 0 1 1 1v4a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1v-4a1 1 0 0 1 1-1ZM4 10.5h12a1 1 0 0 1 1 1v4a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1v-4a1 1 0 0 1 1-1ZM6 6.5h.1M6 13.5h.1",
  sun: "M10 13.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M4.3 15.7l1.1-1.1M14.6 5.4l1.1-1.1",
  moon: "M16.5 11.7A7 7 0 0 1 8.3 3.5a7 7 0 1 0 8.2 8.2Z",
  auto: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14ZM10 3v14M10 6.5l4-2M10 10h7M10 13.5l4 2",
  exit: "M12 4.5V4a1 1 0 0 0-1-1H5a1 1 0 0 0-1 1v12a1 1 0 0 0 1 1h6a1 1 0 0 0 1-1v-.5M8.5 10h9M14.5 7l3 3-3 3",
  print:
    "M6 7V3h8v4M6 14H4.5A1.5 1.5 0 0 1 3 12.5v-4A1.5 1.5 0 0 1 4.5 7h11A1.5 1.5 0 0 1 17 8.5v4a1.5 1.5 0 0 1-1.5 1.5H14M6 12h8v5H6Z",
  sound: "M3 8v4h3l4 3.5v-11L6 8ZM13 7.5a3.5 3.5 0 0 1 0 5M15 5a7 7 0 0 1 0 10",
  soundOff: "M3 8v4h3l4 3.5v-11L6 8ZM13.5 8l4 4M17.5 8l-4 4",
  back: "M16.5 10h-13M8 5.5 3.5 10 8 14.5",
  plus: "M10 4v12M4 10h12",
  signal: "M3.5 16v-3M8 16V10M12.5 16V7M17 16V3.5",
  expand: "M3.5 7.5v-4h4M16.5 7.5v-4h-4M3.5 12.5v4h4M16.5 12.5v4h-4",
  keyboard:
    "M3 5.5h14a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1H3a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1ZM5 8.5h.1M8.3 8.5h.1M11.6 8.5h.1M15 8.5h.1M6.5 11.7h7",
  dot: "M10 8.5a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3Z",
  download: "M10 3.5v9M6 9l4 4 4-4M4 16.5h12",
  shield: "M10 2.8 4 5v4.6c0 3.6 2.4 6.3 6 7.6 3.6-1.3 6-4 6-7.6V5ZM7.3 10l2 2 3.5-4",
  filter: "M3 5h14M5.5 10h9M8 15h4",
  gift: "M3.5 8h13v3h-13ZM4.5 11v5.5h11V11M10 8v8.5M10 8C6.5 8 5.5 6.8 5.5 5.5A1.7 1.7 0 0 1 7.3 3.8C9 3.8 10 6 10 8ZM10 8c3.5 0 4.5-1.2 4.5-2.5a1.7 1.7 0 0 0-1.8-1.7C11 3.8 10 6 10 8Z",
  swap: "M4 6.5h11M12 3.5l3 3-3 3M16 13.5H5M8 10.5l-3 3 3 3",
  tag: "M3.5 4.5v5l7.6 7.2a1 1 0 0 0 1.4 0l4.3-4.4a1 1 0 0 0 0-1.4L9.4 3.5h-5a1 1 0 0 0-.9 1ZM6.8 6.9h.1",
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg className="icon" viewBox="0 0 20 20" width={size} height={size} aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  );
}

/** The barrier arm, half open. */
export function Mark({ size = 28 }: { size?: number }) {
  return (
    <svg className="mark" viewBox="0 0 32 32" width={size} height={size} aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="8" className="mark-ground" />
      <path d="M8 25V13M9 14 25 7" className="mark-arm" />
      <path d="m14.5 11.6 4.6-2" className="mark-stripe" />
    </svg>
  );
}
