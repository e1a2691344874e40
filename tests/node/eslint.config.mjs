// The rules for what the browser loads, and for the scripts here: eslint's recommended ones.
import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["static/nats.js", "static/plotly.min.js", "bench/websocket_client/bundle.js", "**/node_modules/**"] }, // made by npm packages
  js.configs.recommended,
  {
    files: ["static/**/*.js", "bench/websocket_client/*.js"],
    languageOptions: { globals: { ...globals.browser, ...globals.worker, Plotly: "readonly", client: "readonly" } },
  },
  { files: ["tests/node/**/*.mjs", "bundle/*.js"], languageOptions: { globals: globals.node } },
  { files: ["tests/node/tab.test.mjs"], languageOptions: { globals: { location: "writable", history: "writable" } } },
];
