import type { Announcement, AnnouncedHow } from "@turnpike/sdk";

import { noticeSound } from "../ring";

/** A spoken notice that is longer is not waited for: it plays on. */
const CLIP_MS_MAX = 30_000;

/**
 * Has this page's user hear that the call is recorded: the tenant's own spoken notice, else a sound. Resolves with what
 * was played; `shown` where the browser lets no sound out yet, and the text alone tells.
 */
export async function playNotice(due: Announcement): Promise<AnnouncedHow> {
  if (due.url !== null && (await clip(due.url))) return "clip";
  return (await noticeSound()) ? "tone" : "shown";
}

/** Whether it was played to its end. */
async function clip(url: string): Promise<boolean> {
  if (typeof Audio === "undefined") return false;
  const audio = new Audio(url);
  const over = new Promise<boolean>((resolve) => {
    audio.addEventListener("ended", () => resolve(true), { once: true });
    audio.addEventListener("error", () => resolve(false), { once: true });
    setTimeout(() => resolve(audio.currentTime > 0), CLIP_MS_MAX);
  });
  try {
    await audio.play();
  } catch {
    return false; // not there, not sound, or no click on the page yet
  }
  return over;
}
