// What goes wrong between page and server, and what the page makes of it.
import assert from 'node:assert/strict';

import { withoutLook } from './visitor.mjs';

/** Shortest and longest delay before the nth attempt, in milliseconds. */
const bounds = (n) => [0.5, 1].map((part) => part * Math.min(1000 * 2 ** n, 30000));

async function finishes(visitor, page, name) {
  await visitor.starts(page, name);
  await visitor.seesTask(page, name, 'completed');
}

/** The network goes and comes back: the page reconnects, and learns what it has missed. */
export async function network(visitor, world) {
  const page = await visitor.visit('', withoutLook);
  await visitor.starts(page, 'Report', { seconds: 2 });
  await visitor.sees(page, '#log [data-type=task_progress]', 'Report');
  await world.cut();
  await visitor.sees(page, '#state', 'Reconnecting');
  const identifier = await visitor.identifier(page);
  const client = identifier.slice('client:'.length);
  await world.until('the end of the task', async () => {
    const { tasks } = await world.backend(`/tasks?client=${client}`);
    return tasks[0].state === 'completed';
  });
  await world.until('the end of the stream', () => world.streams.size === 0);
  assert.equal(await page.$('[data-state=completed]'), null);
  await world.mend();
  await visitor.seesTask(page, 'Report', 'completed');
  assert.equal(await visitor.identifier(page), identifier);
  await finishes(visitor, page, 'Invoice');
  assert.equal(world.streams.size, 1);
}

/** The gateway crashes: nginx refuses the stream until there is a new one. */
export async function gateway_restart(visitor, world) {
  const page = await visitor.visit();
  await world.kill('gateway');
  await visitor.sees(page, '#connection-notice', 'cannot be reached');
  await visitor.sees(page, '#log [data-type=refused]');
  await world.startGateway();
  await visitor.sees(page, 'body[data-connection=open]');
  await finishes(visitor, page, 'Report');
  assert.equal(world.streams.size, 1);
}

/** The backend crashes and forgets everything while the gateway holds the stream: the page notices. */
export async function backend_restart(visitor, world) {
  const page = await visitor.visit();
  await visitor.starts(page, 'Lost', { seconds: 600 });
  await visitor.seesTask(page, 'Lost', 'running');
  await world.kill('backend');
  await world.startBackend();
  assert.equal(world.opened, 1);
  // The task that nobody works on any more is silent, so that the page asks.
  await visitor.seesTask(page, 'Lost', 'unknown');
  await world.until('a new stream', () => world.opened === 2 && world.streams.size === 1);
  await visitor.isConnected(page);
  await finishes(visitor, page, 'Report');
}

/** A question for the state of the tasks that gets no answer is asked again. */
export async function unanswered(visitor) {
  const first = await visitor.visit();
  await finishes(visitor, first, 'Report');
  await first.close();
  const page = await visitor.visit('', () => {
    const { fetch } = window;
    window.asked = 0;
    window.fetch = async (url, options) => {
      if (!url.startsWith('/tasks') || options.method) return fetch(url, options);
      window.asked += 1;
      if (window.asked > 2) return fetch(url, options);
      throw new TypeError('the network is gone');
    };
  });
  await page.waitForFunction(() => window.asked === 3);
}

/** A stream that is refused for ten seconds is asked for again after growing delays, no more often. */
export async function refused(visitor, world) {
  const page = await visitor.visit();
  await world.kill('gateway');
  await world.kill('backend');
  await world.startGateway();
  const before = world.asked;
  await visitor.sees(page, '#connection-notice button', 'Try now');
  await visitor.sees(page, '#countdown', 'Next attempt in');
  const since = Date.now();
  await page.waitForFunction((end) => Date.now() > end, { polling: 100 }, since + 10000);
  await world.startBackend();
  await visitor.sees(page, 'body[data-connection=open]');
  const delays = (await visitor.rows(page, 'refused')).map((row) => Number(row.delay));
  assert(delays.length >= 4, `delays of ${delays} ms`);
  delays.forEach((delay, n) => {
    const [shortest, longest] = bounds(n);
    assert(delay >= shortest && delay <= longest, `delays of ${delays} ms`);
  });
  assert(new Set(delays.map((delay, n) => delay / bounds(n)[1])).size > 1, `no chance in ${delays}`);
  // The first refusals may have come from nginx, while there was no gateway.
  const asked = world.asked - before;
  assert(asked <= delays.length + 1, `${asked} attempts after ${delays.length} delays`);
  await finishes(visitor, page, 'Report');
}
