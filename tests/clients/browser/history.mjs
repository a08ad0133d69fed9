// What the page makes of what it has missed.
import assert from 'node:assert/strict';

import { withoutLook } from './visitor.mjs';

/** What is shown as said in the lobby, each line with whether it was caught up. */
const said = (page) => page.$$eval('[data-room=lobby] .said li',
  (rows) => rows.map((row) => [row.textContent, row.matches('[data-caught-up]')]));

/** The line is cut: the browser comes back by itself, and what came meanwhile is marked. */
export async function cut(visitor, world) {
  for (const shared of ['yes', 'no']) {
    const { opened } = world;
    const page = await visitor.visit(`/?cut=0.2&shared=${shared}`, withoutLook);
    await visitor.joins(page, 'lobby');
    const say = (words) => world.backend('/rooms/lobby/say?client=somebody', { text: words });
    assert.equal((await say(`Before, ${shared}`)).receivers, 1);
    await visitor.sees(page, '[data-room=lobby] .said', `Before, ${shared}`);
    await page.locator('#cut').click();
    await visitor.sees(page, '#log [data-type=line_cut]', '0.2 s');
    // However long it takes to speak here, the browser is not back before.
    await world.cut();
    await world.until('the end of the stream', () => world.streams.size === 0);
    assert.equal((await say(`Meanwhile, ${shared}`)).receivers, 0);
    await world.mend();
    await visitor.sees(page, '[data-room=lobby] .said', `Meanwhile, ${shared}`);
    await say(`After, ${shared}`);
    await visitor.sees(page, '[data-room=lobby] .said', `After, ${shared}`);
    const lines = (await said(page)).filter(([words]) => words.endsWith(shared));
    assert.deepEqual(lines, ['Before', 'Meanwhile', 'After']
      .map((words) => [`somebo: ${words}, ${shared}`, words === 'Meanwhile']));
    await visitor.sees(page, '#caught-up', 'one event');
    await visitor.sees(page, '#log [data-type=room_message][data-caught-up]', 'Meanwhile');
    assert.equal((await visitor.rows(page, 'gap')).length, 0);
    assert.equal(world.opened, opened + 2);
    // Nothing else in the way, it is back in no time.
    await page.locator('#cut').click();
    await world.until('a third stream', () => world.opened === opened + 3);
    await visitor.sees(page, 'body[data-connection=open]');
    await page.close();
    await world.until('the end of the stream', () => world.streams.size === 0);
  }
}

/** A text that grows: it goes on where it was when the page is loaded anew, and is whole at the end. */
export async function story(visitor, world) {
  for (const shared of ['yes', 'no']) {
    const page = await visitor.visit(`/?story=3&shared=${shared}`);
    await visitor.joins(page, 'lobby');
    const before = (await page.$$('[data-story]')).length;
    await page.locator('[data-room=lobby] .tell').click();
    const row = '[data-story]:last-child';
    await page.waitForFunction((n) => document.querySelectorAll('[data-story]').length === n + 1, {}, before);
    await visitor.sees(page, row, 'Once upon');
    await page.reload();
    await visitor.isConnected(page);
    await visitor.sees(page, `${row} mark`, 'Once');
    await visitor.sees(page, `${row}[data-whole=true]`, 'as if nothing had happened.');
    const whole = await page.$eval(row, (item) => item.textContent);
    assert(/^A story: Once upon a time [^…]+ happened\.$/.test(whole), whole);
    // A tab that comes later, be its stream the same or its own.
    const late = await visitor.browser.newPage();
    await late.goto(`${world.origin}/?shared=${shared}`);
    await visitor.isConnected(page);
    if (shared === 'yes') {
      await visitor.sees(late, `${row}[data-whole=true]`, 'had happened.');
      assert.equal(await late.$eval(row, (item) => item.textContent), whole);
    }
    await late.close();
    await page.close();
    await world.until('the end of the streams', () => world.streams.size === 0);
  }
}

/** What the gateway no longer has: the page says so, and asks how things stand. */
export async function gap(visitor, world) {
  const page = await visitor.visit('', withoutLook);
  await visitor.starts(page, 'Report');
  await visitor.seesTask(page, 'Report', 'completed');
  await world.cut();
  await visitor.sees(page, '#state', 'Reconnecting');
  await world.kill('gateway');
  await world.startGateway();
  await world.mend();
  await visitor.sees(page, '#log [data-type=gap]', 'no longer kept');
  await visitor.sees(page, '#version-notice', 'were missed');
  await visitor.sees(page, 'body[data-connection=open]');
  // It is whole from here on.
  await visitor.starts(page, 'Invoice');
  await visitor.seesTask(page, 'Invoice', 'completed');
}
