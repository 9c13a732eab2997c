// A chat server with faults, made of the official Node server.
//
// It has one conversation, whose events and answers a test delivers late, twice, out of order or
// with gaps. Everything outside of Socket.IO comes from a real server, so the page is the real
// page.
import { createServer, request } from "node:http";
import { once } from "node:events";
import { Server } from "socket.io";
import { LOBBY } from "./page_support.mjs";

const ACK = 3;
const at = (seq) => new Date(Date.UTC(2026, 0, 1) + seq * 1_000).toISOString();

/** Returns a message of another user, unless fields override that. */
export function message(seq, fields = {}) {
  const id = `0190a5d0-0000-7000-8000-${String(seq).padStart(12, "0")}`;
  const own = { id, conversationId: LOBBY, seq, version: 1, userId: "bob", userName: "Bob", type: "user", metadata: {} };
  return { ...own, content: `text ${seq}`, createdAt: at(seq), ...fields };
}

export class FaultyServer {
  /** The messages in the history, in order. */
  stored = [];
  /** By event name: functions `(give, payload)` that are called instead of answering. */
  faults = {};
  /** The names of all requests, in order. */
  asked = [];
  /** Whether each answer is sent twice. */
  isDoubling = false;
  /** Whether no client is sent its session. */
  isSilent = false;
  /** The code with which connecting clients are refused. */
  refusing;
  #rows = new Map();
  #io;
  #http;

  static async start(t, page) {
    const server = new FaultyServer();
    const { hostname, port } = new URL(page);
    server.#http = createServer(({ method, url, headers }, response) => {
      const passed = request({ hostname, port, method, path: url, headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      passed.on("error", () => response.destroy());
      passed.end();
    });
    server.#io = new Server(server.#http);
    server.#io.use((_, next) => {
      const { refusing: code } = server;
      next(code && Object.assign(new Error("refused"), { data: { code, message: "refused" } }));
    });
    server.#io.on("connection", (socket) => server.#meet(socket));
    server.#http.listen(0, "127.0.0.1");
    await once(server.#http, "listening");
    t.after(() => server.#io.close());
    server.url = `http://127.0.0.1:${server.#http.address().port}`;
    return server;
  }

  /** Sends an event to all clients. */
  emit(name, payload) {
    this.#io.emit(name, payload);
  }

  /** Breaks all connections. */
  drop() {
    for (const socket of this.#io.sockets.sockets.values()) socket.conn.close();
  }

  /** Disconnects all clients. */
  dismiss() {
    this.#io.disconnectSockets();
  }

  #meet(socket) {
    const packet = socket.packet.bind(socket);
    socket.packet = (one, options) => {
      packet(one, options);
      if (this.isDoubling && one.type === ACK) packet(one, options);
    };
    socket.onAny((name, payload, ack) => {
      this.asked.push(name);
      if (typeof ack !== "function") return;
      const answer = { success: true, ...this.#answerTo(name, payload) };
      const give = (other = answer) => ack(other);
      const fault = this.faults[name];
      if (fault === undefined) give();
      else fault(give, payload, answer);
    });
    if (!this.isSilent) socket.emit("session", { userId: "me", name: "Me", roles: [], permissions: ["chat:read", "chat:write"], guest: true });
  }

  #answerTo(name, payload) {
    const info = { id: LOBBY, title: "Lobby", ownerId: null, memberIds: [], createdAt: at(0), updatedAt: at(0) };
    const lastSeq = this.stored.at(-1)?.seq ?? 0;
    switch (name) {
      case "conversations":
        return { conversations: [{ ...info, lastSeq, readSeq: lastSeq, unread: 0, notificationLevel: "all" }], hasMore: false };
      case "join_conversation":
        return { conversation: info, users: [], statuses: [], pins: [], ...(payload.lastSeq === undefined ? { messages: [], hasMore: false } : this.#page({ afterSeq: payload.lastSeq })) };
      case "message_history":
        return this.#page(payload);
      case "message":
        return { message: this.#store(payload) };
      default:
        return {};
    }
  }

  #page({ afterSeq, beforeSeq, limit = 50 }) {
    const range = this.stored.filter(({ seq }) => seq > (afterSeq ?? 0) && seq < (beforeSeq ?? Infinity));
    const messages = afterSeq === undefined ? range.slice(-limit) : range.slice(0, limit);
    return { messages, hasMore: range.length > messages.length };
  }

  #store({ clientMessageId, content, metadata }) {
    const known = this.#rows.get(clientMessageId);
    if (known !== undefined) return known;
    const row = message((this.stored.at(-1)?.seq ?? 0) + 1, { userId: "me", userName: "Me", content, metadata });
    this.#rows.set(clientMessageId, row);
    this.stored.push(row);
    return row;
  }
}
