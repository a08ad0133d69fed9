// The world around the page: the gateway, the backend, nginx before them as in production, and a
// wire between browser and nginx that can be cut.
//
// Laws: nothing sleeps to let something happen; whatever must come is waited for, PATIENCE at most,
// and what came instead is shown.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';

/** Milliseconds that anything may take to come. */
export const PATIENCE = 30000;

const LOCAL = '127.0.0.1';

export class World {
  ports = JSON.parse(process.env.PORTS);
  /** What the processes have said. */
  lines = [];
  /** URLs of the streams that are open, by token. */
  streams = new Map();
  /** How many streams were asked for, and how many were opened. */
  asked = 0;
  opened = 0;
  #processes = new Map();
  #waiting = new Set();
  #wire = null;
  #sockets = new Set();

  get origin() {
    // By this name, so that the page is a secure context, as in production.
    return `http://localhost:${this.ports.wire}`;
  }

  async start() {
    await this.startBackend();
    await this.startGateway();
    await this.#startProxy();
    await this.mend();
  }

  async startGateway() {
    const { gateway, backend } = this.ports;
    const env = {
      PORT: gateway, HOST: LOCAL, HISTORY_BYTES: 1000000,
      CALLBACK_URL: `http://${LOCAL}:${backend}/callback`,
    };
    this.#run('gateway', process.env.GATEWAY, [], env);
    await this.until('the gateway', () => answers(gateway, '/readyz'));
  }

  async startBackend() {
    const { gateway, backend } = this.ports;
    const where = ['--listen', `${LOCAL}:${backend}`, '--gateway', `http://${LOCAL}:${gateway}`];
    this.#run('backend', process.env.BACKEND, ['backend', ...where], {});
    await this.until('the backend', () => answers(backend, '/'));
  }

  async #startProxy() {
    const { gateway, backend, proxy } = this.ports;
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'page-proxy-'));
    process.on('exit', () => fs.rmSync(folder, { recursive: true }));
    fs.writeFileSync(path.join(folder, 'nginx.conf'), `
      daemon off; master_process off; pid nginx.pid; error_log stderr;
      events {}
      http {
        access_log off;
        client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
        uwsgi_temp_path uwsgi; scgi_temp_path scgi;
        server {
          listen ${LOCAL}:${proxy};
          location / { proxy_pass http://${LOCAL}:${backend}; }
          location = /events {
            proxy_pass http://${LOCAL}:${gateway};
            proxy_buffering off; proxy_read_timeout 1h;
          }
        }
      }`);
    this.#run('proxy', process.env.NGINX, ['-p', folder, '-c', 'nginx.conf', '-e', 'stderr'], {});
    await this.until('the proxy', () => answers(proxy, '/'));
  }

  /** Cuts every connection of the browser and lets no new one through. */
  async cut() {
    const closed = new Promise((done) => { this.#wire.close(done); });
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await closed;
  }

  async mend() {
    this.#wire = net.createServer((near) => {
      const far = net.connect(this.ports.proxy, LOCAL);
      for (const [one, other] of [[near, far], [far, near]]) {
        this.#sockets.add(one);
        one.setNoDelay().pipe(other).on('error', () => one.destroy());
        one.on('close', () => { this.#sockets.delete(one); other.destroy(); });
      }
    });
    await new Promise((done) => { this.#wire.listen(this.ports.wire, LOCAL, done); });
  }

  #run(name, program, parameters, env) {
    const child = spawn(program, parameters, { env: { PATH: process.env.PATH, ...env } });
    this.#processes.set(name, child);
    for (const pipe of [child.stdout, child.stderr]) {
      readline.createInterface({ input: pipe }).on('line', (line) => this.#hear(name, line));
    }
    child.on('error', (error) => this.#hear(name, String(error)));
  }

  /** Ends a process as a crash does. */
  async kill(name) {
    const child = this.#processes.get(name);
    this.#processes.delete(name);
    const gone = new Promise((done) => { child.on('exit', done); });
    child.kill('SIGKILL');
    await gone;
    if (name === 'gateway') this.streams.clear();
  }

  end() {
    for (const child of this.#processes.values()) child.kill('SIGKILL');
  }

  #hear(name, line) {
    this.lines.push(`${name}: ${line}`);
    if (name === 'gateway') this.#count(line);
    for (const look of this.#waiting) look();
  }

  /** The gateway's log tells which streams are open. */
  #count(line) {
    const [, what, token, url] = /^\[\w+\] (.+) token=(\S+) url=(\S+)/.exec(line) ?? [];
    if (what === 'new connection') this.asked += 1;
    else if (what === 'stream opened') {
      this.opened += 1;
      this.streams.set(token, url);
    } else if (token && / reason=/.test(line)) this.streams.delete(token);
  }

  /** Waits until something is so: looked at after each line of a log, and again after a while. */
  async until(what, isSo) {
    const end = Date.now() + PATIENCE;
    while (!(await isSo())) {
      if (Date.now() > end) throw new Error(`${what} did not come; open: ${[...this.streams.values()]}`);
      await this.#news();
    }
  }

  /** The next line of a log, or a while that is short enough for what no log tells. */
  async #news() {
    await new Promise((done) => {
      const timer = setTimeout(done, 50);
      this.#waiting.add(() => { clearTimeout(timer); done(); });
    });
    this.#waiting.clear();
  }

  /** Asks the backend itself, past proxy and wire; with a body that is posted. */
  async backend(target, body) {
    const answer = await request(this.ports.backend, target, body);
    if (answer.status !== 200) throw new Error(`${target}: ${answer.status}`);
    return JSON.parse(answer.body);
  }
}

function request(port, target, json) {
  return new Promise((done, fail) => {
    const options = { host: LOCAL, port, path: target, agent: false, method: json ? 'POST' : 'GET' };
    http.request(options, (answer) => {
      let body = '';
      answer.setEncoding('utf8');
      answer.on('data', (piece) => { body += piece; });
      answer.on('end', () => done({ status: answer.statusCode, body }));
    }).on('error', fail).end(json && JSON.stringify(json));
  });
}

async function answers(port, target) {
  return request(port, target).then(({ status }) => status === 200, () => false);
}
