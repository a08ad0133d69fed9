// Node's EventSource: reports what it fires. Orders: {"url", "names"}, then `close`.
const { EventSource } = require("eventsource");
const { orders, report } = require("./report.js");

let source;

const begin = ({ url, names }) => {
  source = new EventSource(url);
  source.onopen = () => report({ open: source.readyState });
  for (const name of ["message", ...names]) {
    source.addEventListener(name, (event) => {
      // What the source itself fires as `error` has no data.
      if (event.data === undefined) return;
      report({ event: event.type, data: event.data, id: event.lastEventId });
    });
  }
  source.onerror = (event) => {
    if (event.data === undefined) report({ error: event.code ?? null, state: source.readyState });
  };
};

orders(begin, { close: () => source.close() });
