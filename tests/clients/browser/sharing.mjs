// Who holds how many connections.
import assert from 'node:assert/strict';

import { withoutLook } from './visitor.mjs';

const streams = (world) => [...world.streams.values()];

/** Tabs of a browser share one stream, and each of them sees everything. */
export async function shared(visitor, world) {
  const [one, other] = [await visitor.visit(), await visitor.browser.newPage()];
  await other.goto(world.origin);
  for (const page of [one, other]) await visitor.sees(page, '#sharing', 'shared by 2 tabs');
  await visitor.starts(one, 'Report');
  for (const page of [one, other]) await visitor.seesTask(page, 'Report', 'completed');
  assert.equal(await visitor.identifier(one), await visitor.identifier(other));
  assert.deepEqual([world.asked, streams(world).length], [1, 1]);

  // A tab that comes later sees what was before it.
  const late = await visitor.browser.newPage();
  await late.evaluateOnNewDocument(withoutLook);
  await late.goto(world.origin);
  await visitor.seesTask(late, 'Report', 'completed');
  // The stream outlives the tab that opened it.
  await one.close();
  await visitor.sees(other, '#sharing', 'shared by 2 tabs');
  await visitor.starts(other, 'Invoice');
  await visitor.seesTask(late, 'Invoice', 'completed');
  assert.deepEqual([world.asked, streams(world).length], [1, 1]);

  await other.close();
  await late.close();
  await world.until('the end of the last stream', () => world.streams.size === 0);
}

/** What is said in a room reaches those who are in it; rooms outlast a stream. */
export async function rooms(visitor, world) {
  const [one, other] = [await visitor.visit(), await visitor.visit('/?shared=no')];
  for (const page of [one, other]) await visitor.joins(page, 'lobby');
  await visitor.says(one, 'lobby', 'Hello', 2);
  for (const page of [one, other]) await visitor.sees(page, '[data-room=lobby] .said', 'Hello');
  await visitor.leaves(other, 'lobby');
  await visitor.says(one, 'lobby', 'Anybody there', 'one');
  await visitor.sees(one, '[data-room=lobby] .said', 'Anybody there');

  // A tab of the same stream that comes later, and one whose stream is new.
  const late = await visitor.browser.newPage();
  await late.goto(world.origin);
  await visitor.sees(late, '[data-room=lobby]');
  await visitor.joins(other, 'attic');
  await other.reload();
  await visitor.isConnected(other);
  await visitor.sees(other, '[data-room=attic]');
  await visitor.says(other, 'attic', 'Still here', 'one');
  await visitor.sees(other, '[data-room=attic] .said', 'You: Still here');
  assert.equal(await other.$('[data-room=lobby]'), null);
}

/** Of two tabs with one identifier the newer one wins, and the older one keeps quiet until told. */
export async function replaced(visitor, world) {
  const one = await visitor.visit('/?shared=no');
  const other = await visitor.duplicate(one);
  await visitor.sees(one, '#connection-notice', 'Another tab');
  await visitor.sees(one, '#state', 'Replaced');
  assert.equal(await visitor.identifier(one), await visitor.identifier(other));
  // The task takes longer than a browser waits before it reconnects, which is about three seconds.
  await visitor.starts(other, 'Report', { seconds: 6 });
  await visitor.seesTask(other, 'Report', 'completed');
  assert.deepEqual([world.asked, streams(world).length], [2, 1]);
  assert.equal(await one.$('#log [data-type=task_progress]'), null);

  await one.bringToFront();
  await one.locator('#again').click();
  await visitor.isConnected(one);
  await visitor.sees(other, '#connection-notice', 'Another tab');
  // It has missed the task, and asks.
  await visitor.seesTask(one, 'Report', 'completed');
  await world.until('one stream', () => world.streams.size === 1);
  assert.equal(world.asked, 3);
}

/** A worker that cannot be loaded is done without. */
export async function without_worker(visitor, world) {
  const page = await visitor.visit('', () => {
    window.SharedWorker = class extends SharedWorker {
      constructor() { super('/no-such-worker.js'); }
    };
  });
  await visitor.sees(page, '#sharing', 'this tab alone');
  await visitor.starts(page, 'Report');
  await visitor.seesTask(page, 'Report', 'completed');
  assert.equal(world.asked, 1);
}

/** Each load of the page has one stream, and leaves none behind. */
export async function reload(visitor, world) {
  for (const query of ['', '/?shared=no']) {
    const before = world.asked;
    const page = await visitor.visit(query);
    const identifier = await visitor.identifier(page);
    for (let load = 2; load <= 4; load += 1) {
      await page.reload();
      await visitor.isConnected(page);
      await world.until('one stream', () => world.opened === before + load && world.streams.size === 1);
      assert.equal(await visitor.identifier(page), identifier);
    }
    await visitor.starts(page, 'Report');
    await visitor.seesTask(page, 'Report', 'completed');
    const { connected } = await world.backend(`/connections/${identifier}`);
    assert.equal(connected, true);
    await page.close();
    await world.until('the end of the stream', () => world.streams.size === 0);
    assert.equal(world.asked, before + 4);
  }
}
