import type { ChatEntry, Session } from "@turnpike/sdk";
import { useEffect, useRef, useState, type FormEvent } from "react";

import { timeOfDay } from "../format";
import { t } from "../locale";
import { Button, IconButton } from "../ui/button";
import { Empty, explain } from "../ui/feedback";

const TEXT_MAX = 4_000;

interface Props {
  session: Session;
  messages: readonly ChatEntry[];
  onSend: (text: string) => Promise<void>;
  onClose: () => void;
}

export function ChatPanel({ session, messages, onSend, onClose }: Props) {
  const [text, setText] = useState("");
  const waits = session.view.kind === "chat" && session.view.state !== "active";
  const list = useRef<HTMLOListElement>(null);
  const input = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    // In braces: newer browsers return a promise from scrollTo, which is no clean-up.
    list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [messages]);
  useEffect(() => {
    input.current?.focus();
  }, []);

  const send = (event?: FormEvent) => {
    event?.preventDefault();
    if (waits || text.trim() === "") return;
    void onSend(text);
    setText("");
    input.current?.focus();
  };

  return (
    <aside className="chat" aria-label={t.chat.title}>
      <header className="chat-head">
        <h2>{t.chat.title}</h2>
        <IconButton label={t.common.close} icon="close" onClick={onClose} data-testid="chat-close" />
      </header>
      {messages.length === 0 ? (
        <Empty icon="chat" title={t.chat.empty}>
          {t.chat.emptyHint}
        </Empty>
      ) : (
        <ol className="messages" ref={list} aria-live="polite">
          {messages.map((message) => (
            <Message key={`${message.sender_id}${message.key}`} message={message} session={session} />
          ))}
        </ol>
      )}
      {waits ? (
        <p className="hint chat-waits" role="status">
          {t.chat.waits}
        </p>
      ) : null}
      <form className="chat-form" onSubmit={send}>
        <textarea
          ref={input}
          rows={1}
          maxLength={TEXT_MAX}
          value={text}
          placeholder={t.chat.placeholder}
          aria-label={t.chat.placeholder}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === "Escape") onClose();
            if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
            event.preventDefault();
            send();
          }}
          data-testid="chat-input"
        />
        <Button
          type="submit"
          look="primary"
          icon="send"
          disabled={waits || text.trim() === ""}
          aria-label={t.chat.send}
          data-testid="chat-send"
        />
      </form>
    </aside>
  );
}

function Message({ message, session }: { message: ChatEntry; session: Session }) {
  const own = message.sender_id === session.selfId;
  return (
    <li className={own ? "message message-own" : "message"} data-testid="chat-message" data-status={message.status}>
      <span className="visually-hidden">{own ? t.common.you : session.other.name}: </span>
      <p className={message.status === "sending" ? "message-text message-sending" : "message-text"}>{message.text}</p>
      {message.status === "failed" ? (
        <span className="message-failed">
          {t.chat.failed} {message.error === null ? null : explain(message.error)}{" "}
          <button type="button" className="link-like" onClick={() => void session.chat.resend(message.key)}>
            {t.chat.resend}
          </button>
        </span>
      ) : (
        <time className="message-time">{timeOfDay(message.sent_at_ms)}</time>
      )}
    </li>
  );
}
