import type { RecordingDuty, RecordingView, Role } from "@turnpike/sdk";

const OF_ROLE: Partial<Record<Role, RecordingDuty[]>> = {
  compliance: ["viewer", "exporter", "hold_manager"],
  admin: ["key_admin"],
};

/** A recording with what its reader may do with it, also where the server does not say. It decides in any case. */
export function withDuties(recording: RecordingView, role: Role | undefined): RecordingView {
  return recording.may === undefined ? { ...recording, may: OF_ROLE[role ?? "client"] ?? [] } : recording;
}
