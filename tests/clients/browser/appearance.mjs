// How the page looks, in light and dark, on a wide screen and a narrow one, and how it is used
// without a mouse. The screenshots are for people.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

const SIZES = {
  desktop: { width: 1280, height: 900 },
  // Not as a mobile device: to become one, a page is loaded anew.
  phone: { width: 390, height: 844, deviceScaleFactor: 2 },
  narrowest: { width: 320, height: 640 },
};

/** Least contrast of text (WCAG 2.2, 1.4.3) and of what a control is known by (1.4.11). */
const TEXT = 4.5, CONTROL = 3;

/** Every text, and every field's border, with too little contrast against what is behind it. */
function faint(leastText, leastControl) {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (color) => {
    const [r, g, b] = rgb(color).map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (rgb(color)[3] === 255) return color;
    }
    return 'white';
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const found = [];
  for (const element of document.body.querySelectorAll('*')) {
    if (!element.checkVisibility() || element.closest('script')) continue;
    const style = getComputedStyle(element);
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    const pairs = [];
    if (hasText || element.matches('input')) pairs.push([style.color, behind(element), leastText]);
    if (element.matches('input:not([type=checkbox])')) {
      pairs.push([style.borderColor, behind(element.parentElement), leastControl]);
    }
    if (element.matches('progress')) pairs.push([style.color, style.backgroundColor, leastControl]);
    for (const [one, other, least] of pairs) {
      const ratio = contrast(one, other);
      if (ratio < least) found.push(`${element.outerHTML.slice(0, 80)}: ${ratio.toFixed(2)}`);
    }
  }
  return found;
}

async function look(page, name) {
  for (const scheme of ['light', 'dark']) {
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
    assert.deepEqual(await page.evaluate(faint, TEXT, CONTROL), [], `${name}, ${scheme}: too faint`);
    for (const [size, viewport] of Object.entries(SIZES)) {
      await page.setViewport(viewport);
      const { wide, width } = await page.evaluate(() => (
        { wide: document.documentElement.scrollWidth, width: document.documentElement.clientWidth }));
      assert(wide <= width, `${name} at ${size}: ${wide} pixels on ${width}`);
      const file = path.join(process.env.SCREENSHOTS, `${name}-${size}-${scheme}.png`);
      await page.screenshot({ path: file, fullPage: true });
    }
  }
}

export async function looks(visitor, world) {
  fs.mkdirSync(process.env.SCREENSHOTS, { recursive: true });
  const page = await visitor.visit();
  await look(page, 'empty');
  await visitor.joins(page, 'lobby');
  await visitor.joins(page, 'averylongname'.repeat(6));
  await visitor.says(page, 'lobby', 'Is the report ready?', 'one');
  await visitor.says(page, 'lobby', `Yes: ${'averylongfilename'.repeat(4)}.csv`, 'one');
  await visitor.starts(page, 'Monthly report');
  await visitor.seesTask(page, 'Monthly report', 'completed');
  await visitor.starts(page, 'Backup of the archive', { fails: true });
  await visitor.seesTask(page, 'Backup of the archive', 'failed');
  await visitor.starts(page, `Import of ${'averylongfilename'.repeat(4)}.csv`, { seconds: 60 });
  await visitor.starts(page, 'Video, cut and scaled', { seconds: 20 });
  await page.locator('summary').click();
  await page.locator('#announce button').click();
  await visitor.sees(page, '#version-notice', '1.2.3');
  await visitor.sees(page, '#log [data-type=task_progress]', 'scaled: 10 %');
  await page.locator('[data-room=lobby] .tell').click();
  await visitor.sees(page, '[data-story]', 'upon a time');
  await look(page, 'working');
  await page.reload();
  await visitor.isConnected(page);
  await visitor.sees(page, '[data-story] mark', 'upon');
  await look(page, 'caught-up');
  await world.kill('gateway');
  await visitor.sees(page, '#connection-notice button', 'Try now');
  await look(page, 'refused');
}

/** What may get the focus, in order, by role and name. */
async function focusable(page, most) {
  const found = [];
  const client = await page.createCDPSession();
  for (let n = 0; n < most; n += 1) {
    await page.keyboard.press('Tab');
    const { result } = await client.send('Runtime.evaluate', { expression: 'document.activeElement' });
    const { nodes } = await client.send('Accessibility.getPartialAXTree',
      { objectId: result.objectId, fetchRelatives: false });
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    found.push({ role: nodes[0].role.value, name: nodes[0].name.value, outline });
  }
  return found;
}

/** Everything can be reached and used with the keyboard, is named, and shows that it has the focus. */
export async function keyboard(visitor) {
  const page = await visitor.visit();
  await visitor.joins(page, 'lobby');
  // From here the keyboard goes on.
  await page.locator('h1').click();
  const found = await focusable(page, 14);
  assert.deepEqual(found.map(({ role, name }) => `${role} ${name}`), [
    'textbox Name', 'spinbutton Seconds', 'checkbox Let it fail', 'button Start',
    'textbox Room', 'button Join', 'button Leave', 'list Said in lobby', 'textbox Text', 'button Send',
    'button Tell a story', 'button Cut the line for 10 s', 'DisclosureTriangle Announce a version', 'list Events',
  ]);
  for (const { name, outline } of found) assert.equal(outline, 'solid', name);
  await page.locator('#start [name=name]').fill('Report');
  await page.keyboard.press('Enter');
  await visitor.seesTask(page, 'Report', 'running');
  const tree = await page.accessibility.snapshot({ interestingOnly: false });
  const bars = [];
  const walk = (node) => {
    if (node.role === 'progressbar') bars.push(node.name);
    node.children?.forEach(walk);
  };
  walk(tree);
  assert.deepEqual(bars, ['Report']);
  // Who cannot see the bar is told once how the task has ended.
  await page.waitForFunction(() => document.getElementById('ended').textContent.startsWith('Report: Completed'));
}

/** The bars glide, but for those who asked for less motion. */
export async function motion(visitor) {
  const page = await visitor.visit();
  const client = await page.createCDPSession();
  const started = [];
  client.on('Animation.animationStarted', ({ animation }) => started.push(animation.name));
  await client.send('Animation.enable');
  await visitor.starts(page, 'Report');
  await visitor.seesTask(page, 'Report', 'completed');
  assert(started.length > 0, 'nothing moves');
  await page.emulateMediaFeatures([{ name: 'prefers-reduced-motion', value: 'reduce' }]);
  started.length = 0;
  await visitor.starts(page, 'Invoice');
  await visitor.seesTask(page, 'Invoice', 'completed');
  assert.deepEqual(started, []);
}
