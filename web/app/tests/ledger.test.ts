import { describe, expect, it } from "vitest";

import { columnsOf, linkOf, sectionsOf } from "../src/billing/ledger-rows";

describe("the ledger inspector", () => {
  it("makes rows of lists, of single things and of figures", () => {
    const report = {
      legs: [{ id: 1, amount_minor: 5, tenant_id: 1, memo: null }],
      meter: { state: "open" },
      total_minor: 5,
    };
    expect(sectionsOf({ what: "transfer", key: "trf_1", report })).toEqual([
      { name: "legs", rows: [{ id: 1, amount_minor: 5 }] },
      { name: "meter", rows: [{ state: "open" }] },
      { name: "total_minor", rows: [{ total_minor: 5 }] },
    ]);
  });
  it("has a column for whatever any row says", () => {
    expect(columnsOf([{ a: 1 }, { b: 2, a: 3 }])).toEqual(["a", "b"]);
  });
  it("leads from accounts to transfers to sessions", () => {
    expect(linkOf("debit_account_id", 7)).toEqual({ what: "account", key: "7" });
    expect(linkOf("public_id", "trf_x")).toEqual({ what: "transfer", key: "trf_x" });
    expect(linkOf("source_id", "ses_x")).toEqual({ what: "session", key: "ses_x" });
    expect(linkOf("source_id", "chg_x")).toEqual({ what: "transfer", key: "chg_x" });
    expect(linkOf("memo", "hello")).toBeNull();
  });
});
