import "@fontsource-variable/hanken-grotesk/wght.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/shell.css";
import "./styles/pages.css";
import "./styles/call.css";
import "./styles/quality.css";
import "./styles/billing.css";
import "./styles/print.css";

import { TurnpikeProvider } from "@turnpike/react";
import { TurnpikeClient, type Room, type Session } from "@turnpike/sdk";
import { createRoot } from "react-dom/client";

import { App } from "./app";
import { unlockSound } from "./ring";
import { applyTheme } from "./theme";
import { Fence } from "./ui/fence";

applyTheme();
const client = new TurnpikeClient();
client.restore();
addEventListener("pointerdown", unlockSound, { once: true });
addEventListener("keydown", unlockSound, { once: true });

/** For diagnosis from the browser's console, and for tests: the client and the session shown last. Read-only. */
let session: Session | null = null;
client.on("changed", () => {
  session = client.current ?? session;
});
declare global {
  interface Window {
    readonly turnpike: {
      readonly client: TurnpikeClient;
      readonly session: Session | null;
      readonly room: Room | null;
    };
  }
}
Object.defineProperty(window, "turnpike", {
  value: Object.freeze({
    client,
    get session() {
      return session;
    },
    get room() {
      return session?.room ?? null;
    },
  }),
});

const root = document.getElementById("root");
if (root !== null) {
  createRoot(root).render(
    <TurnpikeProvider value={client}>
      <Fence>
        <App />
      </Fence>
    </TurnpikeProvider>,
  );
}
