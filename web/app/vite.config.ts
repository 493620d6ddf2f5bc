import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const control = process.env.TURNPIKE_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  root: import.meta.dirname,
  plugins: [react()],
  build: {
    outDir: "dist",
    emptyOutDir: true,
    target: "es2022",
    cssTarget: ["chrome123", "firefox121", "safari17.5"],
    assetsInlineLimit: 0,
  },
  server: {
    host: "127.0.0.1",
    proxy: { "/api": control, "/socket.io": { target: control, ws: true } },
  },
});
