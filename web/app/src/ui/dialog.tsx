import { useEffect, useId, useRef, type ReactNode } from "react";

import { t } from "../locale";
import { IconButton } from "./button";

/** A modal dialog. The browser's own `<dialog>` keeps the focus inside, closes on Escape and gives the focus back. */
export function Dialog({
  title,
  children,
  onClose,
  className = "",
}: {
  title: string;
  children: ReactNode;
  onClose: () => void;
  className?: string;
}) {
  const element = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={element}
      className={`dialog ${className}`}
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onMouseDown={(event) => {
        if (event.target === element.current) onClose();
      }}
    >
      <div className="dialog-body">
        <header className="dialog-head">
          <h2 id={heading}>{title}</h2>
          <IconButton label={t.common.close} icon="close" onClick={onClose} />
        </header>
        {children}
      </div>
    </dialog>
  );
}
