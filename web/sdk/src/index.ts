/**
 * The Turnpike SDK. One call, in file order: sign in (client) over REST (rest) and one socket (link), whose events are
 * delivered once and in order (sequence); request or accept a session (session), whose room (room) holds the connection
 * with the server behind tracks that outlive it (tracks, devices), counts time and money between two figures of the
 * server (cost), and has a chat (chat). Afterwards: the receipt, the wallet (wallet), the recordings (recordings).
 */
export { TurnpikeClient, type ClientEvents, type ClientOptions, type ClientState } from "./client";
export { Chat, type ChatEntry } from "./chat";
export { StatsDigest, type StatsReport, type TrackStats } from "./digest";
export { CostClock, type CostReading } from "./cost";
export { listDevices, type DeviceList } from "./devices";
export { Emitter, type Unsubscribe } from "./emitter";
export { Finance, type NewPackageOffer, type Refundable } from "./finance";
export { asTurnpikeError, TurnpikeError } from "./errors";
export { requestKey } from "./keys";
export {
  advise,
  NetworkTest,
  type NetworkAdvice,
  type NetworkFigures,
  type NetworkPath,
  type NetworkTestResult,
  type NetworkTestStep,
} from "./network-test";
export { Recordings, type RecordingSearch, type ReportSearch } from "./recordings";
export { Room, type RoomState } from "./room";
export { EventSequence, type NumberedEvent } from "./sequence";
export { Session } from "./session";
export type { RemoteStats, RoomStats } from "./stats";
export { LocalTrack, RemoteTrack } from "./tracks";
export { Wallet } from "./wallet";
export * from "./wire";
export * from "./wire-billing";
export * from "./wire-recordings";
