import { en, type Locale } from "./en";

/** The words of the language in use. */
export const t: Locale = en;
export const LANGUAGE = "en";
