import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { Client, MemoryStore, WebStore } from './crier.js';

// Clock is time that passes when the test says so.
class Clock {
  #now = 0;
  #timers = new Map();
  #last = 0;

  now = () => this.#now;
  setTimeout = (f, ms) => {
    this.#timers.set(++this.#last, { at: this.#now + ms, f });
    return this.#last;
  };
  clearTimeout = (t) => this.#timers.delete(t);
  get waiting() {
    return this.#timers.size;
  }
  async pass(ms) {
    const end = this.#now + ms;
    for (;;) {
      await settle();
      const [id, next] = [...this.#timers].reduce((a, b) => (b[1].at < a[1].at ? b : a), [0, { at: Infinity }]);
      if (next.at > end) break;
      this.#timers.delete(id);
      this.#now = Math.max(this.#now, next.at);
      next.f();
    }
    this.#now = end;
    await settle();
  }
}

// settle lets every promise that can be resolved be resolved.
async function settle() {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

// world makes a WebSocket class whose other end is `gateway(socket, n, world)`, and what
// watches it. It is written from PROTOCOL.md.
function world(t, gateway, options = {}) {
  const clock = new Clock();
  const w = { clock, urls: [], at: [], acked: [], hellos: [], shown: [], errors: [], empty: 0, closes: [] };
  class Socket {
    readyState = 0;
    constructor(url) {
      this.n = w.urls.push(url) - 1;
      w.at.push(clock.now());
      queueMicrotask(() => gateway(this, this.n, w));
    }
    open() {
      this.readyState = 1;
      this.onopen({});
    }
    message(frame) {
      if (this.readyState === 1) this.onmessage({ data: typeof frame === 'string' || frame instanceof ArrayBuffer ? frame : JSON.stringify(frame) });
    }
    closed(code, reason = '') {
      if (this.readyState === 3) return;
      this.readyState = 3;
      queueMicrotask(() => this.onclose({ code, reason }));
    }
    send(data) {
      assert.equal(this.readyState, 1);
      const frame = JSON.parse(data);
      if (frame.type === 'hello') {
        w.hellos.push(frame);
        this.onhello?.(frame);
      } else {
        assert.equal(frame.type, 'ack');
        assert.ok(frame.ids.length <= 64);
        if (frame.ids.length === 0) w.empty++;
        w.acked.push(...frame.ids);
        this.onack?.(frame.ids);
      }
    }
    close(code) {
      w.closes.push(code);
      this.closed(1000);
    }
  }
  w.client = new Client({
    url: 'https://gateway.test',
    token: 'secret',
    WebSocket: Socket,
    timers: clock,
    random: () => 1,
    network: {},
    onMessage: (m) => void w.shown.push(m.id),
    onError: (error) => w.errors.push(error),
    ...options,
  });
  t.after(async () => {
    const stopped = w.client.stop();
    await clock.pass(5000);
    await stopped;
    assert.equal(clock.waiting, 0, 'timers are left behind');
  });
  w.waits = () => w.at.slice(1).map((at, i) => at - w.at[i]);
  return w;
}

const open = (...frames) => (socket) => {
  socket.open();
  frames.forEach((f) => socket.message(f));
};
const message = (id) => ({ type: 'message', id, job: id, account: 'a', body: `body of ${id}`, order: 1 });

const garbage = ['', '{', '[]', 'null', '"x"', '{}', '{"type":7}', '{"type":"message"}', '{"type":"message","id":7}', `{"type":"message","id":"${'x'.repeat(129)}"}`,
  '{"type":"message","id":"a","body":7}', `{"type":"message","id":"a","body":"${'é'.repeat(131073)}"}`, '{"type":"settled","ids":"a"}', '{"type":"settled","ids":[7,null,""]}',
  '{"type":"settled"}', '{"type":"withdraw","ids":[]}', '{"type":"weather","ids":7}', '{"type":"hello","gateway":"gw1"}', new ArrayBuffer(9)];

test('each message is shown once, whatever happens', async (t) => {
  for (const [name, chaos] of Object.entries({
    calm: { settle: 1 },
    repeats: { settle: 0.1, repeat: 0.9 },
    cut: { settle: 0.2, repeat: 0.3, cut: 0.1 },
    garbage: { settle: 0.5, garbage: 0.5 },
    'bad store': { settle: 0.3, repeat: 0.3, fail: 0.2 },
    'slow application': { settle: 0.3, repeat: 0.3, cut: 0.05, slow: 300 },
    everything: { settle: 0.2, repeat: 0.3, cut: 0.05, garbage: 0.1, fail: 0.05, redirect: 0.05, slow: 50 },
  })) {
    await t.test(name, async (t) => {
      for (let seed = 1; seed <= 8; seed++) await chaosRun(t, chaos, seed);
    });
  }
});

async function chaosRun(t, chaos, seed) {
  const rnd = random(seed);
  const lucky = (p = 0) => rnd() < p;
  const pick = (list) => list[Math.floor(rnd() * list.length)];
  const ids = Array.from({ length: 100 }, (_, i) => `job_${i}`);
  const delivered = new Set();
  const settled = new Set();
  const store = new MemoryStore();
  const fail = () => {
    if (lucky(chaos.fail)) throw new Error('bad store');
  };
  const held = () => new Set(store.load().ids);
  const w = world(t, serve, {
    url: 'ws://gateway.test/v1/connect',
    store: {
      load: () => store.load(),
      add: async (id) => (fail(), await settle(), store.add(id)),
      forget: (gone) => store.forget(gone),
    },
    onMessage: async (m) => {
      assert.equal(m.body, `body of ${m.id}`);
      if (chaos.slow) await new Promise((resolve) => w.clock.setTimeout(resolve, rnd() * chaos.slow));
      w.shown.push(m.id);
    },
  });
  function serve(socket) {
    const has = new Set();
    const sent = new Set();
    socket.open();
    socket.onhello = ({ have, client }) => {
      assert.equal(client, store.load().client);
      assert.deepEqual(new Set(have), held(), 'have is the store');
      for (const id of have) {
        assert.ok(w.shown.includes(id), 'have is of what was shown');
        has.add(id);
        delivered.add(id);
      }
      for (const id of delivered) assert.ok(has.has(id) || settled.has(id), 'what is acknowledged and not settled is in have');
      w.clock.setTimeout(step, 10);
    };
    socket.onack = (list) => {
      for (const id of list) {
        assert.ok(sent.has(id) && w.shown.includes(id), 'an ack is of what was shown');
        assert.ok(held().has(id) || settled.has(id), 'acknowledged implies stored');
        has.add(id);
        delivered.add(id);
      }
    };
    function step() {
      if (socket.readyState !== 1) return;
      const open = has.size + [...sent].filter((id) => !has.has(id) && !settled.has(id)).length;
      const next = ids.filter((id) => !delivered.has(id) && !sent.has(id)).slice(0, Math.max(0, 64 - open));
      for (const id of next) {
        sent.add(id);
        socket.message(message(id));
      }
      const again = [...sent, ...has].filter((id) => !settled.has(id));
      if (again.length > 0 && lucky(chaos.repeat)) {
        const id = pick(again);
        sent.add(id);
        socket.message(message(id));
      }
      if (has.size > 0 && lucky(chaos.settle)) {
        const done = [...has];
        done.forEach((id) => settled.add(id) && has.delete(id));
        socket.message({ type: 'settled', ids: done });
      }
      if (lucky(chaos.garbage)) socket.message(pick(garbage));
      if (lucky(chaos.redirect)) socket.message({ type: 'redirect', url: '/v1/connect' });
      if (lucky(chaos.cut)) return socket.closed(1006);
      if (delivered.size < ids.length || settled.size < ids.length) w.clock.setTimeout(step, 10);
    }
  }
  await w.client.start();
  for (let i = 0; i < 3000 && settled.size < ids.length; i++) await w.clock.pass(1000);
  await w.clock.pass(2000);
  assert.deepEqual([...w.shown].sort(), [...ids].sort(), `seed ${seed}: exactly once`);
  assert.equal(delivered.size, ids.length);
}

test('examples of the description are understood', async (t) => {
  const text = readFileSync(new URL('../../gateway/PROTOCOL.md', import.meta.url), 'utf8');
  const examples = [...text.matchAll(/```json\n(.*?)```/gs)].map(([, json]) => JSON.parse(json));
  const of = (type) => examples.find((e) => e.type === type);
  const withdrawn = [];
  const w = world(t, (s, n) => n === 0 && open(of('message'), of('withdraw'), of('error'), of('redirect'))(s), { onWithdraw: (ids) => withdrawn.push(...ids) });
  await w.client.start();
  await w.clock.pass(100);
  assert.deepEqual(w.shown, [of('message').id]);
  assert.deepEqual(withdrawn, of('withdraw').ids);
  assert.deepEqual(w.acked, of('ack').ids);
  assert.deepEqual(w.urls, ['wss://gateway.test/v1/connect?token=secret', 'wss://gw2.example.net/v1/connect?token=secret']);
  assert.deepEqual(Object.keys(w.hellos[0]).sort(), Object.keys(of('hello')).sort());
});

const withdrawal = (id, ...ids) => ({ type: 'withdraw', id, ids, order: 1 });

test('withdrawals are told, remembered and acknowledged', async (t) => {
  const told = [];
  let fail = true;
  const store = new MemoryStore();
  const w = world(t, open(message('a'), withdrawal('w', 'z'), withdrawal('w', 'z'), withdrawal('w', 'z')), {
    store,
    onWithdraw: (ids) => {
      told.push(...ids);
      if (fail) {
        fail = false;
        throw new Error('the display is gone');
      }
    },
  });
  await w.client.start();
  await w.clock.pass(100);
  assert.deepEqual(w.hellos[0].can, ['withdraw']);
  assert.deepEqual([w.shown, told, w.acked], [['a'], ['z', 'z'], ['a', 'w', 'w']]);
  assert.deepEqual(store.load().ids.sort(), ['a', 'w']);
  assert.match(w.errors[0].message, /the display is gone/);
});

for (const order of ['show-first', 'store-first']) {
  test(`what is withdrawn before it is shown is not shown, ${order}`, async (t) => {
    const told = [];
    const w = world(t, open(message('a'), message('b'), message('c'), withdrawal('w', 'a', 'b'), message('d')), {
      order,
      onMessage: (m) => void told.push(`show ${m.id}`),
      onWithdraw: (ids) => void told.push(`withdraw ${ids}`),
    });
    await w.client.start();
    await w.clock.pass(100);
    assert.deepEqual(told, ['show c', 'withdraw a,b', 'show d']);
    assert.deepEqual(w.acked, ['a', 'b', 'c', 'w', 'd']);
  });
}

test('without onWithdraw a client does not say that it can', async (t) => {
  const w = world(t, open(withdrawal('w', 'a'), { type: 'withdraw', id: 7, ids: ['a'] }, message('b')));
  await w.client.start();
  await w.clock.pass(100);
  assert.ok(!('can' in w.hellos[0]));
  assert.deepEqual([w.shown, w.acked], [['b'], ['b']]);
});

test('a second life remembers', async (t) => {
  const items = new Map();
  const storage = { getItem: (k) => items.get(k) ?? null, setItem: (k, v) => items.set(k, v) };
  const first = world(t, open(message('a'), message('b'), message('a')), { store: new WebStore(storage, 'me') });
  await first.client.start();
  await first.clock.pass(1000);
  await first.client.stop();
  assert.deepEqual(first.shown, ['a', 'b']);
  const second = world(t, open(message('b'), { type: 'settled', ids: ['a'] }, message('c')), { store: new WebStore(storage, 'me') });
  await second.client.start();
  await second.clock.pass(1000);
  assert.deepEqual(second.hellos[0].have, ['a', 'b']);
  assert.equal(second.hellos[0].client, first.hellos[0].client);
  assert.deepEqual([second.shown, second.acked], [['c'], ['b', 'c']]);
  assert.deepEqual(new WebStore(storage, 'me').load().ids, ['b', 'c']);
  items.set('me', '{"client":7,"ids":["x",7');
  assert.deepEqual(new WebStore(storage, 'me').load().ids, []);
});

test('stop acknowledges first', async (t) => {
  const w = world(t, open(message('a')), { ackDelay: 3600_000 });
  await w.client.start();
  await assert.rejects(w.client.start(), /already/);
  await w.clock.pass(1000);
  assert.deepEqual(w.acked, []);
  await w.client.stop();
  assert.deepEqual([w.acked, w.closes.slice(0, 1)], [['a'], [1000]]);
  await w.clock.pass(3600_000);
  assert.equal(w.urls.length, 1);
});

test('stop in each state', async (t) => {
  for (const gateway of [() => {}, (s) => s.closed(1006), open()]) {
    const w = world(t, gateway);
    await w.client.start();
    await w.clock.pass(10);
    const stopped = w.client.stop();
    await w.clock.pass(10);
    await stopped;
  }
  const w = world(t, open(), { token: () => new Promise(() => {}) });
  await w.client.start();
  await w.client.stop();
  assert.deepEqual(w.urls, []);
});

test('the bound of what is remembered', async (t) => {
  const ids = Array.from({ length: 258 }, (_, i) => `m${i}`);
  const w = world(t, async (s) => {
    s.open();
    for (const id of ids) {
      s.message(message(id));
      await settle();
    }
  }, { ackDelay: 3600_000 }); // so that only full acknowledgements leave
  await w.client.start();
  for (let i = 0; i < 300; i++) await w.clock.pass(10);
  assert.deepEqual([w.shown.length, w.acked.length, w.errors.length], [256, 256, 2]);
});

test('orders', async (t) => {
  for (const [order, stuck, want] of [['show-first', 'add', ['show a', 'add a']], ['store-first', 'show', ['add a', 'show a']]]) {
    const did = [];
    let release;
    const held = new Promise((resolve) => (release = resolve));
    const step = (what, id) => (did.push(`${what} ${id}`), what === stuck ? held : undefined);
    const w = world(t, open(message('a')), {
      order,
      store: { load: () => ({ client: 'c', ids: [] }), add: (id) => step('add', id), forget() {} },
      onMessage: (m) => step('show', m.id),
    });
    await w.client.start();
    await w.clock.pass(1000);
    assert.deepEqual([did, w.acked], [want, []]);
    release();
    await w.clock.pass(1000);
    assert.deepEqual([did, w.acked], [want, ['a']]);
  }
});

test('a message that is not taken is neither stored nor acknowledged', async (t) => {
  for (const order of ['show-first', 'store-first']) {
    const store = new MemoryStore();
    let bad = true;
    const shown = [];
    const w = world(t, (s, n) => (open(message('a'), message('b'))(s), n === 0 && w.clock.setTimeout(() => s.closed(4001), 30_000)), {
      order,
      store,
      onMessage: (m) => {
        if (bad && m.id === 'a') throw new Error('the screen is full');
        shown.push(m.id);
      },
    });
    await w.client.start();
    await w.clock.pass(1000);
    assert.deepEqual([shown, w.acked, store.load().ids], [['b'], ['b'], ['b']]);
    bad = false;
    await w.clock.pass(30_000);
    assert.deepEqual([shown, w.acked], [['b', 'a'], ['b', 'a', 'b']]);
  }
});

test('waits between connections', async (t) => {
  const none = { url: 'ws://gateway.test' };
  for (const [name, gateway, want, options] of [
    ['twice as long each time', (s) => s.closed(1006), [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000], none],
    ['a connection that brings nothing does not count', (s) => (s.open(), s.closed(1013)), [200, 400, 800, 1600], none],
    ['one that brings a message does', (s, n) => (n === 2 ? (open(message('a'))(s), s.closed(1001)) : s.closed(1006)), [200, 400, 200, 400], none],
    ['a repeat does not', (s) => (open(message('a'))(s), s.closed(1001)), [200, 400, 800], none],
    ['one that lasts does', (s, n, w) => (n === 2 ? (s.open(), w.clock.setTimeout(() => s.closed(1001), 10_000)) : s.closed(1006)), [200, 400, 10_200, 400], none],
    ['a denied token', (s) => (s.open(), s.closed(4003)), [300_000, 300_000], none],
    ['a denied request', (s) => (s.onerror({ message: 'Unexpected server response: 401' }), s.closed(1006)), [300_000, 300_000], none],
    ['an error without a close', (s) => s.onerror({}), [1200, 1400], none],
    ['replaced', (s) => (s.open(), s.closed(4002)), [30_000, 30_000], none],
    ['redirects in a circle', (s) => open({ type: 'redirect', url: 'ws://other.test' })(s), [0, 0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 400], none],
    ['a redirect into the open', (s) => open({ type: 'redirect', url: 'ws://other.test' })(s), [200, 400], {}],
    ['a redirect to nowhere', (s) => open({ type: 'redirect', url: 'http://' })(s), [200, 400], none],
    ['nobody answers', () => {}, [15_200, 15_400], none],
  ]) {
    await t.test(name, async (t) => {
      const w = world(t, gateway, options);
      await w.client.start();
      await w.clock.pass(1200_000);
      assert.deepEqual(w.waits().slice(0, want.length), want);
      assert.ok(w.errors.length > 0);
    });
  }
});

test('a gateway that closes with 4004 is followed once, then the addresses take turns', async (t) => {
  const gateway = (s, n) => {
    if (n === 0) return s.open(), s.closed(4004, 'wss://gw2.test/v1/connect?token=stolen');
    if (n === 2) return open(message('a'))(s);
    s.closed(1006);
  };
  const w = world(t, gateway, { url: ['https://gateway.test', 'https://gw3.test'] });
  await w.client.start();
  await w.clock.pass(60_000);
  assert.deepEqual(w.urls.map((u) => new URL(u).host), ['gateway.test', 'gw2.test', 'gw3.test']);
  assert.ok(w.urls.every((u) => new URL(u).searchParams.get('token') === 'secret'));
  assert.deepEqual(w.shown, ['a']);
});

test('4004 without an address, or with one that cannot be used, is a close like others', async (t) => {
  for (const reason of ['', 'http://', 'ftp://x', 'ws://open.test']) {
    const w = world(t, (s) => (s.open(), s.closed(4004, reason)), { url: 'https://gateway.test' });
    await w.client.start();
    await w.clock.pass(500);
    assert.deepEqual(w.waits(), [200]);
  }
});

test('a token that cannot be had', async (t) => {
  let n = 0;
  const token = async () => {
    if (++n <= 3) throw new Error('the shop is closed');
    return 'late';
  };
  const w = world(t, open(), { token });
  await w.client.start();
  await w.clock.pass(60_000);
  assert.deepEqual([w.at, w.errors.length], [[1400], 3]);
});

test('a denied token is renewed at once', async (t) => {
  let n = 0;
  const w = world(t, (s, i) => (s.open(), i === 0 && s.closed(4003)), { token: async () => `token${Math.min(n++, 1)}` });
  await w.client.start();
  await w.clock.pass(1000);
  assert.deepEqual(w.waits(), [0]);
  assert.match(w.urls[1], /token=token1$/);
});

test('a dead connection is noticed', async (t) => {
  for (const answers of [true, false]) {
    let pings = 0;
    const w = world(t, (s) => {
      let pong;
      s.on = (_, f) => (pong = f);
      s.ping = () => (pings++, answers && pong());
      s.terminate = () => (s.readyState = 3);
      s.open();
    });
    await w.client.start();
    await w.clock.pass(95_000);
    assert.equal(w.urls.length > 1, !answers);
    assert.ok(pings >= 3);
  }
  const browser = world(t, open());
  await browser.client.start();
  await browser.clock.pass(61_000);
  assert.deepEqual([browser.empty, browser.urls.length], [3, 1]);
});

test('the network comes back', async (t) => {
  const network = new EventTarget();
  const w = world(t, (s, n) => (n < 6 ? s.closed(1006) : s.open()), { network });
  await w.client.start();
  await w.clock.pass(4000);
  const before = w.urls.length;
  network.dispatchEvent(new Event('online'));
  await w.clock.pass(0);
  assert.equal(w.urls.length, before + 1);
});

test('options are checked', () => {
  const good = { url: 'https://g.test', token: 't', onMessage() {}, WebSocket: class {} };
  assert.ok(new Client(good));
  for (const bad of [{ url: 'ftp://g.test' }, { url: undefined }, { token: '' }, { onMessage: undefined }, { WebSocket: undefined }, { order: 'never' }]) {
    assert.throws(() => new Client({ ...good, ...bad }), TypeError);
  }
});
