// What an EventSource fires, as reports. It is carried into a page as its text, so it uses nothing
// from outside but its parameters.
exports.watch = (source, report, names) => {
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
