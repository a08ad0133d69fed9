// Node's EventSource: reports what it fires. Orders: {"url", "names"} and, to make it by code of the
// README, "code", which has a function `listen`; then `close`. With "tabs" there are so many of them,
// and each report says which of them, from 0 on.
const { EventSource } = require("eventsource");
const { orders, report } = require("./report.js");
const { watch } = require("./watch.js");

const sources = [];

const begin = ({ url, names, code, tabs }) => {
  const listen = code && new Function("EventSource", `${code}; return listen;`)(EventSource);
  for (let tab = 0; tab < (tabs ?? 1); tab += 1) {
    const source = listen ? listen(url) : new EventSource(url);
    watch(source, (value) => report({ ...value, ...(tabs && { tab }) }), names);
    sources.push(source);
  }
};

orders(begin, { close: () => sources.forEach((source) => source.close()) });
