// Events, for the marks in all time charts of the page. components/charts/events.py sends them.

import { define, Element, made, say } from "./element.js";
import { setMarks } from "./event_marks.js";

const STYLE = ".lb-events .lb-more { font-size: 0.875rem; opacity: 0.7; }";

class Events extends Element {
  build() {
    this.more = made("div", "lb-more");
    this.root.append(this.more);
  }

  draw() {
    const { more, ...marks } = this.content;
    say(this.more, more ?? "");
    setMarks(this, Object.keys(marks).sort().map((name) => marks[name]));
  }

  end() {
    setMarks(this, []);
  }
}

define("events", Events, STYLE);
