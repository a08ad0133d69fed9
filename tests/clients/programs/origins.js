// A page of another origin in Chromium. Orders: {"page", "cookie", "steps"}: where the page is, a cookie
// of its host, and what it does, one step each time it is told `next`, the first one at once; then
// `close`. A step's report tells what the page could read.
const puppeteer = require("puppeteer-core");
const { orders, report } = require("./report.js");

// In the page: what it opens stays open until it is told to leave.
const steps = {
  source: ({ url, init }) => new Promise((done) => {
    const source = new EventSource(url, init);
    (window.opened ??= []).push(source);
    source.addEventListener("rejected", (event) => done({ rejected: JSON.parse(event.data) }));
    source.onmessage = (event) => done({ data: event.data });
    source.onerror = () => done({ error: source.readyState });
  }),
  fetch: async ({ url, init }) => {
    const answer = await fetch(url, init).catch(() => null);
    if (!answer) return { failed: true };
    const { status, headers, body } = answer;
    if (status !== 200) {
      const { error } = await answer.json();
      return { status, code: error.code, retryAfter: headers.get("retry-after") };
    }
    const { value } = await body.getReader().read();
    return { status, data: new TextDecoder().decode(value) };
  },
  leave: async () => {
    window.opened.forEach((source) => source.close());
    return { left: window.opened.length };
  },
};

const main = async () => {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM,
    // Over a pipe the browser ends with this process, whatever becomes of it.
    pipe: true,
    timeout: 60000,
    args: process.getuid() === 0 ? ["--no-sandbox"] : [],
  });
  const page = await browser.newPage();
  let rest = [];
  const next = async () => {
    const { step, ...options } = rest.shift();
    report(await page.evaluate(`(${steps[step]})(${JSON.stringify(options)})`));
  };
  const begin = async (told) => {
    await page.goto(told.page);
    if (told.cookie) await page.evaluate((cookie) => { document.cookie = cookie; }, told.cookie);
    rest = told.steps;
    await next();
  };
  orders(begin, { next, close: () => browser.close() });
};

main();
