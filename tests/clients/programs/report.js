// What the test reads: one JSON value a line.
exports.report = (value) => process.stdout.write(JSON.stringify(value) + "\n");

// The first line of standard input holds what to do; later ones are commands. Waiting for them
// keeps nothing alive: the process ends as soon as nothing else is under way.
exports.orders = (begin, commands = {}) => {
  const lines = require("readline").createInterface({ input: process.stdin });
  lines.once("line", (line) => {
    lines.on("line", (command) => commands[command]());
    begin(JSON.parse(line));
    process.stdin.unref();
  });
  exports.report({ ready: true });
};
