// Chromium's EventSource: reports what it fires. Orders: {"url", "names"}, then `close`. The page is
// the gateway's own health, so that the stream is of the page's origin.
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
  const page = await browser.newPage();
  // A binding of the protocol keeps the order of what is reported.
  const client = await page.createCDPSession();
  client.on("Runtime.bindingCalled", ({ payload }) => report(JSON.parse(payload)));
  await client.send("Runtime.enable");
  await client.send("Runtime.addBinding", { name: "tell" });

  const begin = async ({ url, names }) => {
    await page.goto(new URL("/healthz", url).href);
    const source = `new EventSource(${JSON.stringify(url)})`;
    const report = "(value) => tell(JSON.stringify(value))";
    await page.evaluate(`(${watch})(${source}, ${report}, ${JSON.stringify(names)})`);
  };
  orders(begin, { close: () => browser.close() });
};

main();
