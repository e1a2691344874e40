// The server's facts about a stream, in one line. components/nats/streams.py sends them.

import { define, Element, say } from "./element.js";

const STYLE = `
.lb-stream_line { font-size: 0.875rem; line-height: 1.6; min-height: 1.6em; opacity: 0.6; overflow-wrap: anywhere; }`;

class StreamLine extends Element {
  draw() {
    say(this.root, this.content.text);
  }
}

define("stream_line", StreamLine, STYLE);
