// Keeps a copy of the tickets that a user may see, equal to the service's, by its live events.
// For browsers, without dependencies. README.md beside this file says why it does what it does.

const PAUSE_MS = { shortest: 500, longest: 30_000, tooMuch: 5_000 };
const ANSWER_WITHIN_MS = 30_000;
const RENEW_AT = 0.9; // of a token's life

export class Refused extends Error {} // to try the same again is of no use

/** What `POST /api/login` answers. Throws `Refused` for wrong credentials. */
export const signIn = (url, username, password) => ask(`${url}/api/login`, { body: { username, password } });

export class LiveTickets {
  tickets = new Map(); // by id
  #cursor = null; // where they stand in the event log; null until they have been loaded
  #session = null;
  #renewal = null;
  #timer = null;
  #failures = 0;
  #isStopped = false;

  /** `signIn` answers what `POST /api/login` does, always for the same user: at first, and when a session is over. */
  constructor(url, signIn, changed = () => {}) {
    Object.assign(this, { url, signIn, changed });
  }

  /** Follows until `stop`. Throws `Refused`: the service wants no more of this, or `signIn` threw it. */
  async run() {
    for (this.#isStopped = false; !this.#isStopped; this.#failures++) {
      let code, reason;
      try {
        if (!this.#session) await this.#renew();
        ({ code, reason } = await this.#follow());
        if (code === 4400 || code === 4403) throw new Refused(reason);
        if (code === 4401) await this.#renew();
      } catch (error) {
        if (error instanceof Refused) throw error; // anything else may pass
      }
      const most = Math.min(PAUSE_MS.longest, PAUSE_MS.shortest * 2 ** this.#failures);
      const pause = Math.random() * most + (code === 4429 ? PAUSE_MS.tooMuch : 0);
      if (!this.#isStopped) await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  stop() {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.socket?.close();
  }

  /** One connection. Resolves with its CloseEvent, once all that came before has been handled. */
  #follow() {
    const socket = (this.socket = new WebSocket(`${this.url.replace(/^http/, "ws")}/ws`));
    let work = Promise.resolve(); // frame by frame, and nothing behind one that failed
    socket.onopen = () => this.#introduce(socket, { since: this.#cursor });
    socket.onmessage = ({ data }) => {
      work = work.then(() => this.#handle(JSON.parse(data)));
      work.catch(() => socket.close());
    };
    const closed = new Promise((resolve) => (socket.onclose = resolve));
    return closed.then((ending) => work.then(() => ending, () => ending));
  }

  /** Says who it is, and again with each new token as long as the connection lasts. */
  #introduce(socket, options) {
    if (socket.readyState !== WebSocket.OPEN) return;
    clearTimeout(this.#timer);
    socket.send(JSON.stringify({ type: "auth", token: this.#session.token, ...options }));
    const again = () => this.#renew().then(() => this.#introduce(socket, {}), () => {});
    this.#timer = setTimeout(again, this.#session.renewAt - Date.now());
  }

  async #handle({ type, cursor, event }) {
    if (type === "event") {
      const { ticket } = event;
      const isNews = ticket.version > (this.tickets.get(ticket.id)?.version ?? 0);
      if (isNews && event.type === "ticket.deleted") this.tickets.delete(ticket.id);
      else if (isNews) this.tickets.set(ticket.id, ticket);
      this.#cursor = cursor;
    } else if (type === "resync" || !this.#cursor) {
      this.#cursor = null;
      this.tickets = await this.#loaded();
      this.#cursor = cursor;
    }
    this.#failures = 0;
    this.changed();
  }

  async #loaded() {
    const tickets = new Map();
    for (let next = ""; next !== null; ) {
      const page = await ask(`${this.url}/api/tickets?limit=100${next}`, { token: this.#session.token });
      for (const ticket of page.items) tickets.set(ticket.id, ticket);
      next = page.nextCursor && `&cursor=${encodeURIComponent(page.nextCursor)}`;
    }
    return tickets;
  }

  /** Sees to a new token. A refresh token is good once, so there is one renewal at a time. */
  #renew() {
    return (this.#renewal ??= this.#newSession().finally(() => (this.#renewal = null)));
  }

  async #newSession() {
    const body = { refreshToken: this.#session?.refreshToken };
    const ended = (error) => (error instanceof Refused ? null : Promise.reject(error));
    const renewed = this.#session && (await ask(`${this.url}/api/token/refresh`, { body }).catch(ended));
    const session = renewed ?? (await this.signIn());
    this.#session = { ...session, renewAt: Date.now() + RENEW_AT * session.expiresIn * 1000 };
  }
}

async function ask(url, { body, token }) {
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
  const answer = await fetch(url, { method: body ? "POST" : "GET", headers, body: JSON.stringify(body), signal });
  if (answer.ok) return answer.json();
  const mayPass = answer.status >= 500 || answer.status === 429;
  throw new (mayPass ? Error : Refused)((await answer.json()).detail);
}
