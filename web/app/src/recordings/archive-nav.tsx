import { useTurnpike } from "@turnpike/react";

import { t } from "../locale";
import { usePath } from "../router";
import { Link } from "../ui/button";

let lastSearch = "";

/** The search as it was left: where "back to the recordings" leads. */
export const searchPath = (): string => `/recordings${lastSearch}`;

/** Keeps the search in the address, and in mind. */
export function keepSearch(query: string): void {
  lastSearch = query;
  history.replaceState(null, "", `/recordings${query}`);
}

/** The parts of the archive. */
export function ArchiveNav() {
  const path = usePath();
  const admin = useTurnpike().me?.user.role === "admin";
  const { places } = t.recordings;
  const all: readonly (readonly [string, string])[] = [
    ["/recordings", places.search],
    ["/recordings/accesses", places.accesses],
    ["/recordings/deletions", places.deleted],
    ["/recordings/policies", places.policies],
    ...(admin ? [["/recordings/platforms", places.platforms] as const] : []),
  ];
  return (
    <nav className="tabs" aria-label={t.recordings.places_label}>
      {all.map(([to, label]) => (
        <Link key={to} to={to === "/recordings" ? searchPath() : to} className="tab" current={path === to}>
          {label}
        </Link>
      ))}
    </nav>
  );
}
