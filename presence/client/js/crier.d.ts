/** Message is a frame as the gateway sent it; times are RFC 3339. */
export interface Message {
  id: string;
  job: string;
  account: string;
  body: string;
  sent_at?: string;
  /** do not display it earlier */
  display_at?: string;
  /** do not display it later */
  expires_at?: string;
  /** of one account and key only the one with the latest sent_at is displayed */
  collapse_key?: string;
  order: number;
  server_time: string;
}

/** Store remembers ids, for one recipient and one running client. When add is resolved, the id is durable. */
export interface Store {
  load(): { client: string; ids: string[] } | Promise<{ client: string; ids: string[] }>;
  add(id: string): void | Promise<void>;
  forget(ids: string[]): void | Promise<void>;
}

/** Options: url, token and onMessage are required. Times are in ms. */
export interface Options {
  /** several take turns when connections end or do not come about */
  url: string | string[];
  /** A function is asked before each connection. */
  token: string | (() => string | Promise<string>);
  /** A message for which it throws is not acknowledged and comes again. */
  onMessage(message: Message): void | Promise<void>;
  /**
   * takes messages off the display that were recalled, those of them that were shown; called again when it throws.
   * Without it the sender learns that the message was not taken back.
   */
  onWithdraw?(ids: string[]): void | Promise<void>;
  onConnect?(): void;
  /** is told why a connection ended and what went wrong; the client goes on by itself */
  onError?(error: Error): void;
  store?: Store;
  /** default: the store's */
  clientId?: string;
  order?: 'show-first' | 'store-first';
  WebSocket?: new (url: string) => unknown;
  backoff?: { min?: number; max?: number; denied?: number; healthy?: number };
  ackDelay?: number;
  pingEvery?: number;
  pingTimeout?: number;
  dialTimeout?: number;
  random?: () => number;
  timers?: { setTimeout(f: () => void, ms: number): unknown; clearTimeout(timer: unknown): void; now(): number };
  /** tells of 'online'; default: globalThis */
  network?: { addEventListener?: Function; removeEventListener?: Function };
}

export class Client {
  constructor(options: Options);
  start(): Promise<void>;
  stop(): Promise<void>;
}

export class MemoryStore implements Store {
  load(): { client: string; ids: string[] };
  add(id: string): void;
  forget(ids: string[]): void;
}

export class WebStore implements Store {
  constructor(storage: Pick<globalThis.Storage, 'getItem' | 'setItem'>, name?: string);
  load(): { client: string; ids: string[] };
  add(id: string): void;
  forget(ids: string[]): void;
}
