import { Component, type ReactNode } from "react";

import { t } from "../locale";
import { Button } from "./button";
import { Empty } from "./feedback";

/** A fault while drawing a page shows a way on instead of an empty window. */
export class Fence extends Component<{ children: ReactNode }, { broken: boolean }> {
  override state = { broken: false };

  static getDerivedStateFromError(): { broken: boolean } {
    return { broken: true };
  }

  override render(): ReactNode {
    if (!this.state.broken) return this.props.children;
    return (
      <Empty
        icon="alert"
        title={t.common.brokenTitle}
        action={
          <Button look="primary" onClick={() => location.reload()}>
            {t.common.reload}
          </Button>
        }
      >
        {t.common.brokenHint}
      </Empty>
    );
  }
}
