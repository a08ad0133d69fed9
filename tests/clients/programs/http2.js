// Streams in one HTTP/2 connection: reports how many the server lets it have, and each line with its
// stream's number. Orders: {"origin", "paths"}.
const http2 = require("http2");
const { orders, report } = require("./report.js");

const begin = ({ origin, paths }) => {
  const session = http2.connect(origin);
  session.once("remoteSettings", ({ maxConcurrentStreams: most }) => report({ most }));
  let left = paths.length;
  paths.forEach((path, stream) => {
    const request = session.request({ ":path": path });
    let rest = "";
    request.on("response", (head) => report({ stream, status: head[":status"] }));
    request.setEncoding("utf8");
    request.on("data", (text) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      for (const line of lines) report({ stream, line });
    });
    request.on("close", () => {
      report({ stream, end: request.rstCode });
      left -= 1;
      if (left === 0) session.close();
    });
  });
};

orders(begin);
