// Node's EventSource: reports what it fires. Orders: {"url", "names"} and, to make it by code of the
// README, "code", which has a function `listen`; then `close`.
const { EventSource } = require("eventsource");
const { orders, report } = require("./report.js");
const { watch } = require("./watch.js");

let source;

const begin = ({ url, names, code }) => {
  const listen = code && new Function("EventSource", `${code}; return listen;`)(EventSource);
  source = listen ? listen(url) : new EventSource(url);
  watch(source, report, names);
};

orders(begin, { close: () => source.close() });
