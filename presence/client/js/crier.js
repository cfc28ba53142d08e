// A recipient's side of the protocol in presence/gateway/PROTOCOL.md, for browsers and
// Node, without dependencies. It guarantees:
//
//   - an acknowledgement leaves only after store.add has succeeded for its id;
//   - onMessage is called once for an id as long as the store remembers it, one message
//     at a time, whatever is repeated and however often connections break;
//   - a message whose withdrawal has come is not shown any more, and onWithdraw is called
//     at least once for each withdrawal before it is acknowledged;
//   - an id is forgotten only when the gateway says that it is settled, and each hello
//     lists exactly the ids that the store remembers.
//
// A page that dies between onMessage and store.add shows the message again (order
// 'show-first', at least once); with 'store-first' one that dies between store.add and
// onMessage never shows it (at most once).
//
//   const client = new Client({
//     url: 'https://gateway.example.net', token: '…', store: new WebStore(localStorage, 'crier/4711'),
//     onMessage: (m) => show(m.account, m.body),
//   });
//   await client.start();
//
// A store belongs to one recipient and to one running client: two people on one device
// need two names, and tabs take turns by navigator.locks.request('crier', …).
// In Node: new Client({ WebSocket, … }) with a WebSocket class such as that of npm "ws".

const maxUnsettled = 256; // ids remembered; a gateway that keeps to the protocol lets 64 be unsettled
const maxQueued = 256; // frames received and not handled: 64 messages of 256 KiB, and others
const maxAck = 64; // ids in an acknowledgement
const maxRedirects = 5; // in a row
const maxID = 128; // bytes
const maxBody = 256 * 1024; // bytes
const closeReplaced = 4002;
const closeDenied = 4003;
const closeMoved = 4004;

const defaults = {
  order: 'show-first',
  ackDelay: 20, // times in ms
  pingEvery: 20_000,
  pingTimeout: 10_000,
  dialTimeout: 15_000,
  backoff: {},
  onWithdraw: null, // without it the client does not say that it can
  onConnect: () => {},
  onError: () => {},
  random: Math.random,
  timers: {
    setTimeout: (f, ms) => setTimeout(f, ms),
    clearTimeout: (t) => clearTimeout(t),
    now: () => Date.now(),
  },
  network: globalThis, // tells of 'online'
};

/** Client keeps one recipient connected. */
export class Client {
  #o;
  #homes; // the configured addresses, taken in turn
  #turn = 0;
  #backoff;
  #state = 'stopped'; // | 'running' | 'stopping'
  #id = '';
  #known = new Map(); // id → whether the store has it: false after an add that failed
  #work = Promise.resolve(); // what is handled, one after the other
  #queued = 0;
  #link = null; // the present connection
  #retry = null; // the timer of the next one
  #tries = 0; // waits since the last healthy connection
  #hops = 0; // redirects in a row
  #renewed = false; // the present token came by a renewal and has not worked yet
  #stopped = () => {};

  constructor(options) {
    const o = { ...defaults, WebSocket: globalThis.WebSocket, ...options };
    if (typeof o.onMessage !== 'function') throw new TypeError('onMessage is needed: it shows a message');
    if (typeof o.WebSocket !== 'function') throw new TypeError('WebSocket is needed: there is none built in');
    if (!o.token) throw new TypeError('token is needed: a string, or a function that gives one');
    if (!['show-first', 'store-first'].includes(o.order)) throw new TypeError(`order ${o.order}: want show-first or store-first`);
    this.#o = o;
    this.#o.store ??= new MemoryStore();
    this.#homes = [o.url].flat().map(target);
    if (this.#homes.length === 0) throw new TypeError('url is needed: where to connect');
    this.#backoff = { min: 200, max: 30_000, denied: 300_000, healthy: 10_000, ...o.backoff };
  }

  /** start reads the store and connects; it is resolved once the store is read. */
  async start() {
    if (this.#state !== 'stopped') throw new Error('this client runs already');
    this.#state = 'running';
    try {
      const { client, ids } = await this.#o.store.load();
      this.#id = this.#o.clientId ?? client;
      if (!validID(this.#id)) throw new Error('a client id has 1 to 128 bytes and no control characters');
      // What could not be stored before was shown all the same.
      this.#known = new Map([...this.#known].filter(([, stored]) => !stored).concat(ids.map((id) => [id, true])));
    } catch (error) {
      this.#state = 'stopped';
      throw error;
    }
    this.#o.network.addEventListener?.('online', this.#online);
    this.#connect(this.#home);
  }

  /** stop acknowledges what was shown and closes the connection. */
  async stop() {
    if (this.#state !== 'running') return;
    this.#state = 'stopping';
    this.#o.network.removeEventListener?.('online', this.#online);
    this.#o.timers.clearTimeout(this.#retry);
    const ended = new Promise((resolve) => (this.#stopped = resolve));
    await this.#work;
    const link = this.#link;
    if (link) {
      if (!link.socket) {
        this.#end(link);
      } else if (!link.over) {
        this.#flush(link);
        link.timers.push(this.#o.timers.setTimeout(() => this.#end(link), 5000)); // a gateway that does not answer
        link.socket.close(1000);
      }
      await ended;
    }
    await this.#work;
    this.#state = 'stopped';
  }

  get #home() {
    return this.#homes[this.#turn];
  }

  #online = () => {
    this.#tries = 0;
    if (this.#link) {
      this.#end(this.#link, { error: new Error('the network has changed') });
    } else if (this.#retry !== null) {
      this.#o.timers.clearTimeout(this.#retry);
      this.#connect(this.#home);
    }
  };

  #do(work) {
    this.#work = this.#work.then(work).catch((error) => this.#report(error));
  }

  #report(error) {
    try {
      this.#o.onError(error);
    } catch (own) {
      queueMicrotask(() => {
        throw own; // a defect of the application, told as such; the client goes on
      });
    }
  }

  async #connect(to) {
    this.#retry = null;
    const link = { url: to, socket: null, token: '', opened: null, progress: false, over: false, denied: false, redirect: null, error: null, acks: [], due: null, timers: [], withdrawn: new Map() };
    this.#link = link;
    try {
      link.token = await this.#token();
      if (this.#state !== 'running' || link.over) return this.#end(link);
      const url = new URL(to);
      url.searchParams.set('token', link.token);
      link.socket = new this.#o.WebSocket(url.href);
    } catch (error) {
      return this.#end(link, { error });
    }
    const { socket } = link;
    link.timers.push(this.#o.timers.setTimeout(() => this.#end(link, { error: new Error('no connection in time') }), this.#o.dialTimeout));
    socket.onopen = () => this.#do(() => this.#hello(link));
    socket.onmessage = ({ data }) => this.#receive(link, data);
    socket.onerror = ({ message }) => {
      link.error ??= new Error(message || 'the connection broke');
      link.timers.push(this.#o.timers.setTimeout(() => this.#end(link, { error: link.error }), 1000)); // not every class says that it closed
      link.denied ||= /\b40[13]\b/.test(message); // npm ws says it; browsers do not
    };
    socket.onclose = ({ code, reason }) => {
      if (code === closeMoved && reason) this.#moved(link, reason);
      this.#end(link, { code, error: link.error ?? new Error(`closed with ${code}${reason ? `: ${reason}` : ''}`) });
    };
  }

  // #moved notes where a gateway that closed the connection sends the client.
  #moved(link, url) {
    try {
      link.redirect ??= redirected(link.url, url);
    } catch (error) {
      link.error = error;
    }
  }

  async #token() {
    const { token } = this.#o;
    return typeof token === 'function' ? token() : token;
  }

  async #other(token) {
    try {
      return (await this.#token()) !== token;
    } catch (error) {
      this.#report(error);
      return false;
    }
  }

  async #hello(link) {
    if (link.over) return;
    for (const id of this.#known.keys()) {
      if (!(await this.#keep(link, id))) return;
    }
    if (link.over || this.#state !== 'running') return;
    const can = this.#o.onWithdraw ? { can: ['withdraw'] } : {};
    this.#send(link, { type: 'hello', client: this.#id, have: [...this.#known.keys()], ...can });
    link.timers.splice(0).forEach((t) => this.#o.timers.clearTimeout(t));
    link.opened = this.#o.timers.now();
    this.#ping(link);
    this.#o.onConnect();
  }

  // #ping finds dead connections. Browsers cannot ping: what is sent instead makes the
  // system notice that nobody answers.
  #ping(link) {
    const { timers, pingEvery, pingTimeout } = this.#o;
    const can = typeof link.socket.ping === 'function' && typeof link.socket.on === 'function';
    let deadline = null;
    if (can) link.socket.on('pong', () => timers.clearTimeout(deadline));
    const again = () => {
      if (link.over) return;
      if (can) {
        deadline = timers.setTimeout(() => this.#end(link, { error: new Error('the connection is dead: a ping had no answer') }), pingTimeout);
        link.timers[1] = deadline;
        link.socket.ping();
      } else {
        this.#send(link, { type: 'ack', ids: [] });
      }
      link.timers[0] = timers.setTimeout(again, pingEvery);
    };
    link.timers[0] = timers.setTimeout(again, pingEvery);
  }

  #send(link, frame) {
    if (link.over || link.socket.readyState !== 1) return;
    try {
      link.socket.send(JSON.stringify(frame));
    } catch (error) {
      this.#end(link, { error });
    }
  }

  #receive(link, data) {
    if (link.over) return;
    if (this.#queued >= maxQueued) {
      this.#end(link, { error: new Error(`${maxQueued} frames wait for onMessage`) });
      return;
    }
    const frame = parse(data);
    if (frame.type === 'withdraw') withdrawn(link, frame.ids, 1); // what waits before it is not shown
    this.#queued++;
    this.#do(async () => {
      this.#queued--;
      if (this.#state === 'running' && !link.redirect) await this.#take(link, frame);
    });
  }

  async #take(link, frame) {
    if (frame instanceof Error) {
      this.#report(frame);
      return;
    }
    switch (frame.type) {
      case 'message':
        return this.#message(link, frame);
      case 'settled':
        return this.#forget(frame.ids);
      case 'withdraw':
        return this.#withdraw(link, frame).finally(() => withdrawn(link, frame.ids, -1));
      case 'redirect':
        this.#flush(link);
        try {
          link.redirect = redirected(link.url, frame.url);
        } catch (error) {
          return this.#end(link, { error });
        }
        return this.#end(link, { code: 1000 });
      case 'error':
        link.error = new Error(`the gateway says ${frame.code}: ${frame.message}`);
    }
  }

  async #message(link, message) {
    const { id } = message;
    if (!this.#known.has(id)) {
      if (this.#known.size >= maxUnsettled) throw new Error(`message ${id} is not taken: ${maxUnsettled} others are unsettled`);
      if (!link.withdrawn.has(id) && !(await this.#show(link, message))) return;
      link.progress = true;
    }
    if (await this.#keep(link, id)) this.#acknowledge(link, id);
  }

  // #withdraw takes messages off the display, remembers that, and acknowledges it. To do it
  // twice does no harm, so that the order is always this one.
  async #withdraw(link, { id, ids }) {
    if (!this.#o.onWithdraw) return; // it was not asked for
    if (!this.#known.has(id)) {
      if (id && this.#known.size >= maxUnsettled) throw new Error(`withdrawal ${id} is not taken: ${maxUnsettled} others are unsettled`);
      await this.#o.onWithdraw(ids);
      link.progress ||= id !== undefined;
    }
    if (id && (await this.#keep(link, id))) this.#acknowledge(link, id);
  }

  async #show(link, message) {
    const storeFirst = this.#o.order === 'store-first';
    if (storeFirst && !(await this.#keep(link, message.id))) {
      this.#known.delete(message.id); // it was not shown
      return false;
    }
    try {
      await this.#o.onMessage(message);
    } catch (error) {
      this.#report(error);
      if (storeFirst) await this.#forget([message.id]);
      return false;
    }
    return true;
  }

  // #keep adds an id that was shown to the store. If that fails the connection ends: it
  // must not be acknowledged, and the next hello tries again.
  async #keep(link, id) {
    if (this.#known.get(id)) return true;
    this.#known.set(id, false);
    try {
      await this.#o.store.add(id);
    } catch (error) {
      this.#end(link, { error });
      return false;
    }
    this.#known.set(id, true);
    return true;
  }

  async #forget(ids) {
    const had = ids.filter((id) => this.#known.delete(id));
    if (had.length > 0) await this.#o.store.forget(had);
  }

  #acknowledge(link, id) {
    if (link.over) return;
    link.acks.push(id);
    if (link.acks.length >= maxAck) this.#flush(link);
    else link.due ??= this.#o.timers.setTimeout(() => this.#flush(link), this.#o.ackDelay);
  }

  #flush(link) {
    this.#o.timers.clearTimeout(link.due);
    link.due = null;
    const ids = link.acks.splice(0).filter((id) => this.#known.get(id)); // others are settled meanwhile
    if (ids.length > 0) this.#send(link, { type: 'ack', ids });
  }

  // #end ends a connection, whoever wants it. What it brought is handled first; then
  // comes the next one.
  #end(link, why = {}) {
    if (link.over) return;
    link.over = true;
    link.timers.concat(link.due ?? []).forEach((t) => this.#o.timers.clearTimeout(t));
    if (link.socket && why.code === undefined) link.socket.terminate?.();
    if (link.socket) link.socket.close();
    this.#do(() => this.#next(link, why));
  }

  async #next(link, { code, error }) {
    this.#link = null;
    if (this.#state !== 'running') return this.#stopped();
    const { min, max, denied, healthy } = this.#backoff;
    if (link.progress || (link.opened !== null && this.#o.timers.now() - link.opened >= healthy)) {
      this.#tries = this.#hops = 0;
      this.#renewed = false;
    }
    if (link.redirect && this.#hops < maxRedirects) {
      this.#hops++;
      return void this.#connect(link.redirect);
    }
    let wait;
    if (link.redirect) {
      this.#hops = 0;
      error = new Error(`more than ${maxRedirects} redirects in a row`);
    }
    if (code === closeDenied || link.denied) {
      error = new Error('the gateway denies the token', { cause: error });
      this.#renewed = !this.#renewed && (await this.#other(link.token));
      wait = this.#renewed ? 0 : denied;
    } else if (code === closeReplaced) {
      error = new Error('replaced by a newer connection with the same client id', { cause: error });
      wait = max;
    } else {
      wait = Math.min(max, min * 2 ** this.#tries++);
      if (!link.redirect) this.#turn = (this.#turn + 1) % this.#homes.length;
    }
    this.#report(error);
    if (this.#state !== 'running') return this.#stopped();
    this.#retry = this.#o.timers.setTimeout(() => this.#connect(this.#home), wait / 2 + (this.#o.random() * wait) / 2);
  }
}

/** MemoryStore remembers ids as long as the page or process lives. */
export class MemoryStore {
  #client = newClientID();
  #ids = new Set();

  load() {
    return { client: this.#client, ids: [...this.#ids] };
  }
  add(id) {
    this.#ids.add(id);
  }
  forget(ids) {
    ids.forEach((id) => this.#ids.delete(id));
  }
}

/** WebStore remembers ids in a Storage such as localStorage, under one name. */
export class WebStore {
  #storage;
  #name;
  #client = '';
  #ids = new Set();

  constructor(storage, name = 'crier') {
    this.#storage = storage;
    this.#name = name;
  }
  load() {
    let kept = {};
    try {
      kept = JSON.parse(this.#storage.getItem(this.#name)) ?? {};
    } catch {
      // What cannot be read was not written here: a new client begins.
    }
    this.#ids = new Set(Array.isArray(kept.ids) ? kept.ids.filter(validID) : []);
    this.#client = validID(kept.client) ? kept.client : newClientID();
    this.#save();
    return { client: this.#client, ids: [...this.#ids] };
  }
  add(id) {
    this.#ids.add(id);
    this.#save();
  }
  forget(ids) {
    ids.forEach((id) => this.#ids.delete(id));
    this.#save();
  }
  #save() {
    this.#storage.setItem(this.#name, JSON.stringify({ client: this.#client, ids: [...this.#ids] }));
  }
}

function newClientID() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

function bytes(s) {
  return new TextEncoder().encode(s).length;
}

function validID(id) {
  return typeof id === 'string' && id.length > 0 && bytes(id) <= maxID && !/[\u0000-\u001f\u007f]/.test(id);
}

// parse reads a frame, or gives an Error that says why it is ignored.
function parse(data) {
  let frame;
  try {
    if (typeof data !== 'string') throw new Error('it is binary');
    frame = JSON.parse(data);
    if (typeof frame?.type !== 'string' || frame.type === '') throw new Error('it has no type');
    if (frame.type === 'message') {
      if (!validID(frame.id)) throw new Error('its id is not valid');
      frame.body ??= '';
      if (typeof frame.body !== 'string' || bytes(frame.body) > maxBody) throw new Error('its body is not text of at most 256 KiB');
    }
    if (frame.type === 'settled' || frame.type === 'withdraw') {
      frame.ids ??= [];
      if (!Array.isArray(frame.ids)) throw new Error('its ids are no list');
      frame.ids = frame.ids.filter(validID);
    }
    if (frame.type === 'withdraw' && frame.id !== undefined && !validID(frame.id)) throw new Error('its id is not valid');
  } catch (cause) {
    return new Error(`a frame of the gateway is ignored: ${cause.message}`, { cause });
  }
  return frame;
}

// withdrawn counts the withdrawals that wait to be handled, by the ids that they name.
function withdrawn(link, ids, n) {
  for (const id of ids) {
    const left = (link.withdrawn.get(id) ?? 0) + n;
    if (left > 0) link.withdrawn.set(id, left);
    else link.withdrawn.delete(id);
  }
}

// target reads the address of a gateway.
function target(address) {
  const url = new URL(address);
  url.protocol = { 'http:': 'ws:', 'https:': 'wss:' }[url.protocol] ?? url.protocol;
  if (!['ws:', 'wss:'].includes(url.protocol)) throw new TypeError(`a gateway has http, https, ws or wss, not ${url.protocol}`);
  if (url.pathname === '/') url.pathname = '/v1/connect';
  url.hash = '';
  url.searchParams.delete('token');
  return url;
}

function redirected(from, to) {
  const url = target(new URL(to, from));
  if (from.protocol === 'wss:' && url.protocol === 'ws:') throw new Error('the gateway redirects to an open connection, where the token could be read');
  return url;
}
