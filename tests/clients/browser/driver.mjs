// Runs one case, named on the command line, in a browser and a world of its own. What the processes
// and the page said is shown if it fails.
import { createRequire } from 'node:module';

import * as appearance from './appearance.mjs';
import * as faults from './faults.mjs';
import * as history from './history.mjs';
import * as sharing from './sharing.mjs';
import * as tasks from './tasks.mjs';
import { Visitor } from './visitor.mjs';
import { World } from './world.mjs';

/** Milliseconds that a case may take in all. */
const LONGEST = 150000;

const cases = { ...tasks, ...sharing, ...faults, ...history, ...appearance };
const [name] = process.argv.slice(2);
const world = new World();
const visitor = new Visitor(world);

process.on('exit', () => world.end());
process.stdin.resume().on('end', () => finish(new Error('nobody waits for the case any more')));
setTimeout(() => finish(new Error('the case takes too long')), LONGEST);

function finish(error) {
  if (error) {
    console.error(error.stack, '\n\n', [...world.lines, ...visitor.lines].join('\n'));
    process.exit(1);
  }
  process.exit(0);
}

try {
  // By `require`, which looks for packages where NODE_PATH says.
  const puppeteer = createRequire(import.meta.url)('puppeteer-core');
  await world.start();
  visitor.browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM,
    // Over a pipe the browser ends with this process, whatever becomes of it.
    pipe: true,
    args: process.getuid() === 0 ? ['--no-sandbox'] : [],
  });
  await cases[name](visitor, world);
  await visitor.browser.close();
  finish();
} catch (error) {
  // Its profile goes with it.
  await visitor.browser?.close();
  finish(error);
}
