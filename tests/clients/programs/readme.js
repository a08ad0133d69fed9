// The README's code for browsers, in Node. Orders: {"origin", "code"}, the code of the README.
const { EventSource } = require("eventsource");
const { orders, report } = require("./report.js");

const begin = ({ origin, code }) => {
  class OfPage extends EventSource {
    constructor(url) {
      super(new URL(url, origin));
      this.addEventListener("open", () => report({ open: true }));
      this.addEventListener("error", () => report({ state: this.readyState }));
    }
  }
  const console = { log: (...words) => report({ log: words }) };
  new Function("EventSource", "console", code)(OfPage, console);
};

orders(begin);
