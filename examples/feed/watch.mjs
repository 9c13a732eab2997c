// Shows a feed in a terminal, as a channel of a chat: what there was, and then what comes, each
// once and in order.
//
//   npm install && TOKEN=$(roomcast token --sub ann) node watch.mjs http://localhost:3000 gold
import { io } from "socket.io-client";

const [url = "http://localhost:3000", channelId] = process.argv.slice(2);
const colours = { buy: 32, sell: 31, hold: 33 };
/** The last ones that were shown: a snapshot after a reconnect begins with some of them. */
const shown = new Set();

function show(signal) {
  if (shown.has(signal.signalId)) return;
  shown.add(signal.signalId);
  if (shown.size > 1000) shown.delete(shown.values().next().value);
  const { timestamp, channelId, providerName, action, symbol, entryPrice, stopLoss, takeProfit, confidence } = signal;
  const colour = (text) => (process.stdout.isTTY ? `\x1b[${colours[action]}m${text}\x1b[0m` : text);
  const prices = Object.entries({ at: entryPrice, stop: stopLoss, target: takeProfit })
    .filter(([, price]) => price != null)
    .map(([name, price]) => ` ${name} ${price}`)
    .join("");
  const where = channelId ? `#${channelId} ` : "";
  console.log(`${timestamp.slice(11, 19)} ${where}${providerName}: ${colour(action.toUpperCase())} ${symbol}${prices} (${confidence} %)`);
}

const socket = io(url, { auth: process.env.TOKEN ? { token: process.env.TOKEN } : {} });
socket.on("signals:subscribed", ({ snapshot }) => snapshot.signals.forEach(show));
socket.on("signal:new", show);
socket.on("connect", async () => {
  if (socket.recovered) return;
  const answer = await socket.emitWithAck("subscribe:signals", channelId ? { channelId } : {});
  if (!answer.success) throw new Error(answer.error.message);
  console.log(`-- watching ${channelId ? `#${channelId}` : "all signals"} --`);
});
socket.on("connect_error", ({ message }) => console.error(`not connected: ${message}`));
