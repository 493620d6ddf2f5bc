import type { Presence, UserView } from "@turnpike/sdk";

function initials(name: string): string {
  const words = name.trim().split(/\s+/);
  const letters = [words[0]?.[0], words.length > 1 ? words.at(-1)?.[0] : undefined];
  return letters.filter(Boolean).join("").toUpperCase();
}

/** A person's initials on their colour; decorative, the name stands beside it. */
export function Avatar({
  user,
  size = 40,
  presence,
}: {
  user: Pick<UserView, "name" | "avatar_hue">;
  size?: number;
  presence?: Presence;
}) {
  const hue = user.avatar_hue ?? 0;
  return (
    <span
      className="avatar"
      aria-hidden="true"
      style={{ width: size, height: size, fontSize: size * 0.38, "--hue": hue } as React.CSSProperties}
    >
      {initials(user.name)}
      {presence === undefined ? null : <span className={`presence-dot presence-${presence}`} />}
    </span>
  );
}
