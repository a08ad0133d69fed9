// Node's EventSource: reports what it fires. Orders: {"url", "names"}, then `close`.
const { EventSource } = require("eventsource");
const { orders, report } = require("./report.js");

let source;

const begin = ({ url, names }) => {
  source = new EventSource(url);
  source.onopen = () => report({ open: source.readyState });
  for (const name of ["message", ...names]) {
    source.addEventListener(name, (event) =>
      report({ event: event.type, data: event.data, id: event.lastEventId }));
  }
  source.onerror = (event) => {
    // An event of the stream may be called `error` too.
    if (event.data === undefined) report({ error: event.code ?? null, state: source.readyState });
  };
};

orders(begin, { close: () => source.close() });
