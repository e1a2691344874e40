// The newest rows as they arrive; they can be held and searched. components/tables/newest_rows.py sends them.

import { define } from "./element.js";
import { HELD, HeldRows } from "./held_rows.js";

class NewestRows extends HeldRows {
  columns() {
    return (this.shown.columns ?? []).map(([label, number]) => ({ label, number }));
  }
}

define("newest_rows", NewestRows, HELD);
