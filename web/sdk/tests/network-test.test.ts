import { describe, expect, it } from "vitest";

import { advise, onlyPath, type NetworkFigures } from "../src/network-test";

const GOOD: NetworkFigures = {
  paths: { udp: true },
  connect_ms: 80,
  rtt_ms: 30,
  jitter_ms: 4,
  loss_up: 0,
  loss_down: 0,
  up_bps: 2_000_000,
  down_bps: 1_800_000,
};

describe("advise", () => {
  it("is content with a good network, and with what could not be measured", () => {
    expect(advise(GOOD)).toEqual(["good"]);
    expect(advise({ ...GOOD, rtt_ms: null, up_bps: null, down_bps: null, loss_up: null })).toEqual(["good"]);
  });

  it("says nothing else where nothing gets through", () => {
    expect(advise({ ...GOOD, paths: { udp: false, tcp: false }, up_bps: 0 })).toEqual(["blocked"]);
    expect(advise({ ...GOOD, paths: {} })).toEqual(["blocked"]);
  });

  it("names everything that will be noticed", () => {
    const bad = {
      ...GOOD,
      paths: { udp: false, tcp: true },
      up_bps: 150_000,
      loss_down: 0.1,
      rtt_ms: 400,
      jitter_ms: 80,
    };
    expect(advise(bad)).toEqual(["detour_only", "video_impossible", "lossy", "far", "unstable"]);
    expect(advise({ ...GOOD, down_bps: 500_000 })).toEqual(["video_reduced"]);
  });
});

describe("onlyPath", () => {
  it("leaves the candidates of one path", () => {
    const udp = "a=candidate:1 1 udp 2130706431 127.0.0.1 4000 typ host";
    const tcp = "a=candidate:2 1 tcp 1518280447 127.0.0.1 4000 typ host tcptype passive";
    const sdp = ["v=0", udp, tcp, "a=end-of-candidates", ""].join("\r\n");
    expect(onlyPath(sdp, "tcp")).toBe(["v=0", tcp, "a=end-of-candidates", ""].join("\r\n"));
    expect(onlyPath(sdp, "udp")).toBe(["v=0", udp, "a=end-of-candidates", ""].join("\r\n"));
  });
});
