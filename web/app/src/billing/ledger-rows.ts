import type { LedgerReport, LedgerSubject } from "@turnpike/sdk";

export type Cell = string | number | boolean | null;
export type LedgerRow = Record<string, Cell>;

/** Columns that no person needs, or that say the same in every row. */
const HIDDEN = new Set([
  "tenant_id",
  "idempotency_key",
  "lane",
  "overdraft",
  "platform_account_id",
  "content",
  "request_key",
]);

/** A report's sections as rows, in its order; figures alone become a row of their own. */
export function sectionsOf({ report }: LedgerReport): { name: string; rows: LedgerRow[] }[] {
  return Object.entries(report).map(([name, value]) => {
    if (Array.isArray(value)) return { name, rows: value.map(rowOf) };
    if (value !== null && typeof value === "object") return { name, rows: [rowOf(value)] };
    return { name, rows: [{ [name]: value as Cell }] };
  });
}

function rowOf(value: unknown): LedgerRow {
  const row: LedgerRow = {};
  for (const [name, cell] of Object.entries(value as Record<string, unknown>)) {
    if (HIDDEN.has(name) || cell === null) continue;
    row[name] = typeof cell === "object" ? JSON.stringify(cell) : (cell as Cell);
  }
  return row;
}

/** The columns of a table: all that any row has, in the order in which they first come. */
export function columnsOf(rows: readonly LedgerRow[]): string[] {
  return [...new Set(rows.flatMap((row) => Object.keys(row)))];
}

/** Where a cell leads: from an account to its transfers, from those to their chain, from a meter to its session. */
export function linkOf(column: string, value: Cell): { what: LedgerSubject; key: string } | null {
  const key = String(value);
  if (/_account_id$|^account_id$/.test(column)) return { what: "account", key };
  if (column === "session_public_id") return { what: "session", key };
  if (/^ses_/.test(key)) return { what: "session", key };
  if (/^(trf|chg|rev)_/.test(key)) return { what: "transfer", key };
  if (/^usr_/.test(key)) return { what: "account", key };
  return null;
}
