// Node's EventSource: reports what it fires. Orders: {"url", "names"}, then `close`.
const { EventSource } = require("eventsource");
const { listen } = require("./listen.js");
const { orders, report } = require("./report.js");

let source;

const begin = (order) => {
  source = listen(EventSource, report, order);
};

orders(begin, { close: () => source.close() });
