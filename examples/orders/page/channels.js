// Follows channels of Roomcast with the stock client of Socket.IO. Each event is received once and
// in order, over lost connections, restarts of the server and tokens that expire.

/** Milliseconds that an answer may take, and between attempts. */
const ANSWER_TIMEOUT = 10_000;
const RETRY_DELAY = 2_000;
/** Milliseconds after which a refused client connects again with a new token. */
const REFUSED_DELAY = 10_000;

const pause = (delay = RETRY_DELAY) => new Promise((done) => setTimeout(done, delay));

/**
 * Connects, and returns a function that follows a channel from then on.
 *
 * - `fetchAccess()` gets `{url, token, channelToken?}` from the backend.
 * - `events` are the names of the events.
 * - `received(channel, event, data)` is called for each event.
 * - `followed(channel)` is called when all events until now were received.
 * - `forgotten(channel)` is called if events are missing, because they are no longer stored.
 * - `report(text)` is called when the state of the connection changes.
 */
export function openChannels({ fetchAccess, events, received, followed, forgotten, report }) {
  let access;
  let socket;
  /** All channels to follow. */
  const channels = new Set();
  /** Those that this connection follows or has asked to follow, and whether all is received. */
  const following = new Map();
  /** The position of the last received event of each channel. */
  const positions = new Map();

  connect();
  return follow;

  async function refresh() {
    access = await fetchAccess();
    return { token: access.token };
  }

  /** Loads the client from Roomcast, also if that or the backend is down now. */
  async function loadClient() {
    for (let attempt = 1; ; attempt++) {
      try {
        await refresh();
        // Another address each time, because browsers may not load a failed module again.
        return await import(`${access.url}/socket.io/socket.io.esm.min.js?attempt=${attempt}`);
      } catch {
        report("Offline, trying again…");
        await pause();
      }
    }
  }

  async function connect() {
    report("Connecting…");
    const { io } = await loadClient();
    socket = io(access.url, {
      // Each connection begins with a new token. Without one, the next attempt follows.
      auth: (send) => refresh().then(send, () => socket.io.engine.close()),
    });
    socket.on("auth:expiring", () => refresh().then((token) => socket.emit("auth:refresh", token), () => {}));
    socket.on("connect", () => {
      report("Live");
      following.clear();
      channels.forEach(follow);
    });
    socket.on("connect_error", async ({ message, data }) => {
      if (socket.active) return report("Offline, trying again…");
      // The client does not connect again after a refusal.
      report(`Refused: ${message}`);
      await pause(data?.retryAfter ?? REFUSED_DELAY);
      socket.connect();
    });
    socket.on("disconnect", (reason) => {
      report("Offline, trying again…");
      // The server ended the session, because its token expired. The client does not reconnect.
      if (reason === "io server disconnect") socket.connect();
    });
    for (const event of events) {
      socket.on(event, (data, { channel, position }) => {
        // Before the answer, which has the event too.
        if (!following.get(channel)) return;
        positions.set(channel, position);
        received(channel, event, data);
      });
    }
    socket.on("channel:ended", ({ channel, reason }) => {
      following.delete(channel);
      if (reason === "interrupted" || reason === "expired") followAgain(channel);
      else report(`No longer available: ${reason}`);
    });
  }

  function follow(channel) {
    channels.add(channel);
    if (!socket?.connected || following.has(channel)) return;
    following.set(channel, false);
    subscribe(channel);
  }

  /** Follows from the last position, with a new token. */
  async function followAgain(channel) {
    await refresh().catch(() => {}); // While the backend is down, Roomcast refuses the old token.
    follow(channel);
  }

  function subscribe(channel) {
    const since = positions.get(channel);
    const request = { channel, since, token: access.channelToken ?? undefined };
    // A callback, because a promise resolves after the listeners of events next to the answer.
    socket.timeout(ANSWER_TIMEOUT).emit("channel:subscribe", request, (failure, answer) => {
      if (failure) return void (socket.connected && socket.disconnect().connect());
      if (!answer.success) return refused(channel, answer.error);
      if (answer.forgotten) forgotten(channel);
      for (const { event, data } of answer.events) received(channel, event, data);
      positions.set(channel, answer.position);
      if (answer.hasMore && since !== undefined && !answer.forgotten) return subscribe(channel);
      following.set(channel, true);
      followed(channel);
    });
  }

  async function refused(channel, { code, message, details, retryAfter }) {
    following.delete(channel);
    if (code === "NOT_FOUND") return report(`Not available: ${message}`);
    if (details?.field === "since") {
      // A database was restored that has not reached this position.
      positions.delete(channel);
      forgotten(channel);
    }
    await pause(retryAfter);
    await followAgain(channel);
  }
}
