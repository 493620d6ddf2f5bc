export type Theme = "auto" | "light" | "dark";
const KEY = "turnpike.theme";

export function theme(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : "auto";
}

/** `auto` leaves the choice to the system. */
export function setTheme(choice: Theme): void {
  localStorage.setItem(KEY, choice);
  applyTheme();
}

export function applyTheme(): void {
  const choice = theme();
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
}
