// Chromium's EventSource: reports what it fires. Orders: {"url", "names"}, then `close`; with "tabs" so
// many pages do the same, and each report says which of them, from 0 on. The page is the gateway's own
// health, so that the stream is of the page's origin.
const puppeteer = require("puppeteer-core");
const { orders, report } = require("./report.js");
const { watch } = require("./watch.js");

const main = async () => {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM,
    // Over a pipe the browser ends with this process, whatever becomes of it.
    pipe: true,
    timeout: 60000,
    args: process.getuid() === 0 ? ["--no-sandbox"] : [],
  });
  const begin = async ({ url, names, tabs }) => {
    for (let tab = 0; tab < (tabs ?? 1); tab += 1) {
      const page = await browser.newPage();
      // A binding of the protocol keeps the order of what is reported.
      const client = await page.createCDPSession();
      client.on("Runtime.bindingCalled", ({ payload }) => {
        report({ ...JSON.parse(payload), ...(tabs && { tab }) });
      });
      await client.send("Runtime.enable");
      await client.send("Runtime.addBinding", { name: "tell" });
      await page.goto(new URL("/healthz", url).href);
      const source = `new EventSource(${JSON.stringify(url)})`;
      const tell = "(value) => tell(JSON.stringify(value))";
      await page.evaluate(`(${watch})(${source}, ${tell}, ${JSON.stringify(names)})`);
    }
  };
  orders(begin, { close: () => browser.close() });
};

main();
