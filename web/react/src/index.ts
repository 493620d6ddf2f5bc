/** Turnpike for React: a provider for the client, and hooks that redraw when what they look at changes. */
import {
  asTurnpikeError,
  type ChatEntry,
  type CostReading,
  type Room,
  type Session,
  type TurnpikeClient,
  type TurnpikeError,
} from "@turnpike/sdk";
import {
  createContext,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
} from "react";

const ClientContext = createContext<TurnpikeClient | null>(null);
export const TurnpikeProvider = ClientContext.Provider;

interface Changing {
  on(name: "changed", listener: () => void): () => void;
}

/** Redraws whenever any of them emits `changed`. */
export function useChanges(...things: (Changing | null | undefined)[]): void {
  const version = useRef(0);
  const subscribe = useCallback((redraw: () => void) => {
    const bump = () => {
      version.current += 1;
      redraw();
    };
    const offs = things.map((thing) => thing?.on("changed", bump));
    return () => offs.forEach((off) => off?.());
  }, things);
  useSyncExternalStore(subscribe, () => version.current);
}

/** The client; redraws with it. */
export function useTurnpike(): TurnpikeClient {
  const client = useContext(ClientContext);
  if (client === null) throw new Error("useTurnpike needs a TurnpikeProvider above it");
  useChanges(client);
  return client;
}

/** The moving figures of a session, read a few times a second while its clock runs. */
export function useCost(session: Session, everyMs = 200): CostReading {
  const [, redraw] = useState(0);
  const reading = session.cost();
  useEffect(() => {
    if (!reading.running) return;
    const timer = setInterval(() => redraw((n) => n + 1), everyMs);
    return () => clearInterval(timer);
  }, [reading.running, everyMs]);
  return reading;
}

export interface Call {
  session: Session | null;
  room: Room | null;
  messages: readonly ChatEntry[];
  unread: number;
  error: TurnpikeError | null;
  actions: {
    toggleMicrophone(): Promise<void>;
    toggleCamera(): Promise<void>;
    toggleScreen(): Promise<void>;
    send(text: string): Promise<void>;
    hangUp(): Promise<void>;
  };
}

/** One session by its id: loads it, takes part in it, and redraws with it. `error`: it can't be loaded, or an action failed. */
export function useCall(sessionId: string): Call {
  const client = useTurnpike();
  const [session, setSession] = useState<Session | null>(null);
  const [error, setError] = useState<TurnpikeError | null>(null);
  useChanges(session);

  useEffect(() => {
    let current = true;
    setSession(null);
    setError(null);
    client.session(sessionId).then(
      (found) => {
        if (!current) return;
        found.enter();
        void found.chat.load().catch(() => undefined); // told again by the next reconnection
        setSession(found);
      },
      (thrown: unknown) => current && setError(asTurnpikeError(thrown)),
    );
    return () => {
      current = false;
    };
  }, [client, sessionId]);

  const actions = useMemo(() => {
    const attempt = async (work: Promise<unknown> | undefined) => {
      setError(null);
      await work?.catch((thrown: unknown) => setError(asTurnpikeError(thrown)));
    };
    const toggle = (source: "microphone" | "camera" | "screen") => () => {
      const track = session?.room.local[source];
      return attempt(track?.setEnabled(!track.enabled));
    };
    return {
      toggleMicrophone: toggle("microphone"),
      toggleCamera: toggle("camera"),
      toggleScreen: toggle("screen"),
      send: (text: string) => attempt(session?.chat.send(text)),
      hangUp: () => attempt(session?.end()),
    };
  }, [session]);

  return {
    session,
    room: session?.room ?? null,
    messages: session?.chat.entries ?? [],
    unread: session?.chat.unread ?? 0,
    error,
    actions,
  };
}
