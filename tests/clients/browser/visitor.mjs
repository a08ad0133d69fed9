// Somebody who uses the page: by its form and its buttons, and by reading what it shows.
import { PATIENCE } from './world.mjs';

/** A page that another one has opened. */
const popup = (page) => new Promise((done) => { page.once('popup', done); });

/** For `visit`: without the page's regular look, which makes up for an event that was missed. */
export const withoutLook = () => { window.setInterval = () => 0; };

export class Visitor {
  browser = null;
  /** What the pages said on their consoles. */
  lines = [];
  #world;

  constructor(world) {
    this.#world = world;
  }

  /** A tab with the page, once its stream is open; `prepare` runs in it before its own scripts. */
  async visit(query = '', prepare = () => {}) {
    const page = this.#watch(await this.browser.newPage());
    await page.evaluateOnNewDocument(prepare);
    await page.goto(this.#world.origin + query);
    await this.isConnected(page);
    return page;
  }

  /** A second tab that gets a copy of the first one's session storage, as a duplicated tab does. */
  async duplicate(page) {
    const opens = popup(page);
    await page.evaluate(() => { open(location.href); });
    const copy = this.#watch(await opens);
    await this.isConnected(copy);
    return copy;
  }

  #watch(page) {
    page.setDefaultTimeout(PATIENCE);
    page.on('console', (message) => this.lines.push(`page: ${message.text()}`));
    page.on('pageerror', (error) => this.lines.push(`page: ${error.stack}`));
    return page;
  }

  async isConnected(page) {
    await this.sees(page, 'body[data-connection=open]');
    // The backend's first event: from it on the page is sent what happens.
    await this.sees(page, '#log [data-type=connection_open]');
  }

  /** Waits for an element with this text in it. */
  async sees(page, selector, words = '') {
    const isThere = (wanted, part) => [...document.querySelectorAll(wanted)]
      .some((element) => element.checkVisibility() && element.textContent.includes(part));
    try {
      await page.waitForFunction(isThere, { polling: 'mutation' }, selector, words);
    } catch (error) {
      const shown = await page.evaluate(() => document.body.innerText);
      throw new Error(`no ${selector} with "${words}": ${error.message}\n${shown}`);
    }
  }

  async starts(page, name, { seconds = 1, fails = false } = {}) {
    await page.bringToFront();
    await page.locator('#start [name=name]').fill(name);
    await page.locator('#start [name=seconds]').fill(String(seconds));
    const isChecked = await page.$eval('#start [name=fails]', (box) => box.checked);
    if (isChecked !== fails) await page.locator('#start [name=fails]').click();
    await page.locator('#start button').click();
  }

  async joins(page, room) {
    await page.bringToFront();
    await page.locator('#join [name=room]').fill(room);
    await page.locator('#join button').click();
    await this.sees(page, `#rooms [data-room=${room}]`);
  }

  async leaves(page, room) {
    await page.bringToFront();
    await page.locator(`#rooms [data-room=${room}] .line button`).click();
    await page.waitForFunction((name) => !document.querySelector(`[data-room=${name}]`), {}, room);
  }

  /** Says something in a room, which this many streams get. */
  async says(page, room, words, receivers) {
    await page.bringToFront();
    await page.locator(`#rooms [data-room=${room}] [name=text]`).fill(words);
    await page.locator(`#rooms [data-room=${room}] form button`).click();
    await this.sees(page, `#rooms [data-room=${room}] .heard`, `${receivers} stream`);
  }

  /** Waits until a task is shown in a state. */
  async seesTask(page, name, state) {
    await this.sees(page, `#tasks [data-state=${state}] .name`, name);
  }

  /** Rows of the log of a type, the oldest first, as their facts. */
  async rows(page, type) {
    const rows = await page.$$eval(`#log [data-type=${type}]`,
      (items) => items.map((item) => ({ ...item.dataset })));
    return rows.reverse();
  }

  async identifier(page) {
    return page.$eval('#identifier', (element) => element.textContent);
  }
}
