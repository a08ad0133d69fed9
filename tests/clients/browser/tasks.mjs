// What the page is for: tasks, their ends, and versions.
import assert from 'node:assert/strict';

import { withoutLook } from './visitor.mjs';

/** A task's bar fills step by step, to its end. */
export async function progress(visitor) {
  const page = await visitor.visit('', withoutLook);
  await page.evaluate(() => {
    window.seen = new Set();
    const look = () => document.querySelectorAll('progress').forEach((bar) => window.seen.add(bar.value));
    new MutationObserver(look).observe(document.body, { subtree: true, attributes: true, childList: true });
  });
  await visitor.starts(page, 'Report', { seconds: 2 });
  await visitor.seesTask(page, 'Report', 'running');
  await visitor.seesTask(page, 'Report', 'completed');
  const seen = await page.evaluate(() => [...window.seen]);
  const between = seen.filter((value) => value > 0 && value < 100);
  assert(between.length >= 3, `the bar stood at ${seen}`);
  assert.deepEqual(seen, [...seen].sort((a, b) => a - b), 'the bar went back');
  assert.equal(seen.at(-1), 100);
}

/** A failure is shown with its error, and the bar stays where the task failed. */
export async function failure(visitor) {
  const page = await visitor.visit('', withoutLook);
  await visitor.starts(page, 'Backup', { fails: true });
  await visitor.seesTask(page, 'Backup', 'failed');
  const shown = await page.$eval('#tasks li', (item) => ({
    result: item.querySelector('.result').textContent,
    why: item.querySelector('.why').textContent,
    value: item.querySelector('progress').value,
  }));
  assert(shown.result.startsWith('Failed'), shown.result);
  assert(shown.why !== '' && shown.value < 100, JSON.stringify(shown));
}

/** Every open tab tells of a new version; one that loads the page later has it. */
export async function version(visitor, world) {
  const [one, other] = [await visitor.visit(), await visitor.visit('/?shared=no')];
  await one.bringToFront();
  await one.locator('summary').click();
  await one.locator('#announce [name=version]').fill('2.0.1');
  await one.locator('#announce button').click();
  for (const page of [one, other]) await visitor.sees(page, '#version-notice', '2.0.1');
  const loads = one.waitForNavigation();
  await one.locator('#reload').click();
  await loads;
  await visitor.isConnected(one);
  assert.equal(await one.$eval('#version-notice', (notice) => notice.hidden), true);
  // Who had no stream when a version came is told of it by the next one.
  const page = await visitor.visit('/?shared=no');
  await world.cut();
  await visitor.sees(page, '#state', 'Reconnecting');
  await world.until('the end of the streams', () => world.streams.size === 0);
  await world.backend('/version', { version: '2.0.2' });
  await world.mend();
  await visitor.sees(page, '#version-notice', '2.0.2');
}
