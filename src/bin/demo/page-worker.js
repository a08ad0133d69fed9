// The page's connection to the server, in a file of its own because it runs in two places: in a
// SharedWorker, where all tabs of a browser share one stream (over HTTP/1.1 a browser opens only
// six connections to a host, and a stream holds one for good), or else in the tab itself. A worker
// is shared by those who name the same URL: a Blob's URL is another one in each tab.
'use strict';

/** Every event that the backend sends; "error" is also what the browser calls its own. */
const NAMES = ['connection_open', 'connection_close', 'task_progress', 'task_completed',
  'task_failed', 'version', 'error'];

/** Growing delays, in milliseconds. The random part keeps many pages from coming at once. */
class Delays {
  static FIRST = 1000;
  static LONGEST = 30000;
  #next = Delays.FIRST;

  next() {
    const delay = this.#next * (0.5 + Math.random() / 2);
    this.#next = Math.min(this.#next * 2, Delays.LONGEST);
    return Math.round(delay);
  }

  reset() {
    this.#next = Delays.FIRST;
  }
}

/**
 * One stream, kept open. Its states, each told as `{state}` by the function that was given:
 * `connecting`; `open`; `lost`: the stream ended, the browser reconnects by itself; `waiting` until
 * `until`: the stream was refused, which ends an EventSource for good, so that a new one is made
 * after a delay; `ended` with a `reason`: the server has closed it, and only `open` begins anew.
 */
class Connection {
  /** How often an open stream is checked: the server may have forgotten it, or the network. */
  static CHECK = 30000;
  #source = null;
  #timer = 0;
  #delays = new Delays();
  #opened = 0;

  constructor(id, tell) {
    this.id = id;
    this.tell = tell;
    this.state = { name: 'connecting' };
    // A check of all pages at once would come after everything that all of them notice.
    setInterval(() => this.check(), Connection.CHECK * (0.75 + Math.random() / 2));
  }

  open() {
    this.close();
    this.#turn({ name: 'connecting' });
    const source = new EventSource(`/events?client=${this.id}`);
    this.#source = source;
    source.onopen = () => {
      this.#opened += 1;
      this.#delays.reset();
      this.#turn({ name: 'open' });
    };
    for (const name of NAMES) source.addEventListener(name, (event) => this.#hear(event));
    source.addEventListener('error', (event) => {
      // An event of the backend's by that name says nothing about the connection.
      if (event instanceof MessageEvent) return;
      if (source.readyState === EventSource.CLOSED) this.#wait();
      else this.#turn({ name: 'lost' });
    });
  }

  close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  /** Ends a wait: there is news, by the user or by the network. */
  hurry() {
    if (this.state.name === 'waiting') this.open();
  }

  /** Asks the backend whether it still knows this connection, and opens a new one if not. */
  async check() {
    if (this.state.name !== 'open') return;
    const asked = this.#opened;
    const known = await json(`/connections/client:${this.id}`).catch(() => null);
    // What was said of an earlier stream does not hold for this one.
    if (asked !== this.#opened || this.state.name !== 'open') return;
    if (known?.connected === false) this.open();
  }

  #hear(event) {
    if (!(event instanceof MessageEvent)) return;
    const data = parsed(event.data);
    this.tell({ event: { type: event.type, data } });
    if (event.type !== 'connection_close') return;
    // The stream ends now, and the browser would reconnect: another tab, which has replaced this
    // one, would be replaced in turn, and so on for ever.
    this.close();
    this.#turn({ name: 'ended', reason: data.reason });
  }

  #wait() {
    const delay = this.#delays.next();
    this.#timer = setTimeout(() => this.open(), delay);
    this.#turn({ name: 'waiting', delay, until: Date.now() + delay });
  }

  #turn(state) {
    this.state = state;
    this.tell({ state });
  }
}

/** What is not JSON, or no object, has no fields. */
function parsed(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}

async function json(url, options) {
  const answer = await fetch(url, { cache: 'no-store', ...options });
  if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
  return answer.json();
}

/** The worker's side: one connection, and the ports of all tabs. */
class Hub {
  #ports = new Set();
  #connection = null;

  add(port) {
    port.onmessage = ({ data }) => this.#obey(port, data);
    // Where browsers tell of it: a tab that crashed.
    port.onclose = () => this.#leave(port);
  }

  #obey(port, { action, id }) {
    if (action === 'join') this.#join(port, id);
    else if (action === 'leave') this.#leave(port);
    else if (['open', 'hurry', 'check'].includes(action)) this.#connection?.[action]();
  }

  #join(port, id) {
    // The first tab's identifier holds for all.
    this.#connection ??= new Connection(id, (message) => this.#tell(message));
    this.#ports.add(port);
    if (this.#ports.size === 1) this.#connection.open();
    const { id: shared, state } = this.#connection;
    port.postMessage({ id: shared, state });
    this.#tell({ tabs: this.#ports.size });
  }

  #leave(port) {
    if (!this.#ports.delete(port)) return;
    if (this.#ports.size === 0) this.#connection.close();
    this.#tell({ tabs: this.#ports.size });
  }

  #tell(message) {
    for (const port of this.#ports) port.postMessage(message);
  }
}

if (typeof SharedWorkerGlobalScope !== 'undefined') {
  const hub = new Hub();
  self.onconnect = ({ ports: [port] }) => hub.add(port);
}
