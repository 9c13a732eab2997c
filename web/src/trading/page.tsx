import { useState } from "preact/hooks";
import { type App, TRADING } from "../app.ts";
import type { Signal, Trade } from "../types.ts";
import { valueAt } from "./exact.ts";
import { Holdings } from "./holdings.tsx";
import { Some, When } from "./lists.tsx";
import { Market, isOpen } from "./market.ts";
import { amount, sum } from "./numbers.ts";
import { Order } from "./order.tsx";

/** The live portfolio, trades and signals of the user. */
export function Trading({ app }: { app: App }) {
  const market = marketOf(app);
  if (market === undefined) return null;
  const isOnline = app.status.state === "online" || app.status.state === "unresponsive";
  const { known, refusals } = market;
  const toOrder = market.mayExecute ? <ToOrder /> : undefined;
  return (
    <div class="trading">
      {!isOnline && <p class="trading-stale">Not connected. What you see may be out of date.</p>}
      <div class={market.mayExecute ? "cards has-order" : "cards"}>
        <section class="card card-portfolio" aria-labelledby="portfolio-title">
          <h2 id="portfolio-title">Portfolio</h2>
          {refusals.get("portfolio") ?? (known.portfolio.isKnown ? <Holdings market={market} toOrder={toOrder} /> : <Waiting />)}
        </section>
        {market.mayExecute && <Order market={market} isOnline={isOnline} />}
        <section class="card card-trades" aria-labelledby="trades-title">
          <h2 id="trades-title">Trades</h2>
          {refusals.get("trades") ?? (known.trades.isKnown ? <Trades market={market} toOrder={toOrder} /> : <Waiting />)}
        </section>
        <section class="card card-signals" aria-labelledby="signals-title">
          <h2 id="signals-title">Signals</h2>
          {refusals.get("signals") ?? (known.signals.isKnown ? <Signals signals={market.signals} hasMore={market.hasMoreSignals} /> : <Waiting />)}
        </section>
      </div>
    </div>
  );
}

/** The next step of a user whose lists are empty. */
function ToOrder() {
  return (
    <button class="link-button" type="button" onClick={() => document.getElementById("order-quantity")?.focus()}>
      Write an order
    </button>
  );
}

/**
 * Returns the market of the user. Its subscriptions continue on other pages, so that the outcome of
 * an order is not missed.
 */
function marketOf(app: App): Market | undefined {
  if (app.connection === undefined) return undefined;
  return (app.market ??= new Market(app.connection, {
    changed: () => app.changed(),
    announce: (text) => app.announce(text),
    ended: ({ text, kind }) => {
      if (!app.place.isTrading) app.notice(text, { isBad: kind !== "good", href: TRADING });
    },
  }));
}

function Waiting() {
  return <p class="nothing">Loading…</p>;
}

const sides = { buy: "Buy", sell: "Sell" };
const states: Record<Trade["status"], string> = { pending: "open", executed: "executed", failed: "failed", canceled: "canceled" };

function Trades({ market, toOrder }: { market: Market; toOrder: preact.ComponentChildren }) {
  const { trades } = market;
  if (trades.length === 0) return <p class="nothing">No trades yet. {toOrder ?? "They appear here as soon as a service publishes them."}</p>;
  return (
    <Some all={trades} hasMore={market.hasMoreTrades}>
      {(shown) => (
        <ul class="ledger">
          {shown.map((trade) => (
            <li key={trade.tradeId} data-trade={trade.tradeId} data-status={trade.status}>
              <bdi class="ledger-name">{trade.symbol}</bdi>
              <span class={isOpen(trade) ? "chip is-open" : trade.status === "executed" ? "chip is-good" : "chip"}>{states[trade.status]}</span>
              <span class="ledger-detail">
                {trade.side !== null && `${sides[trade.side]} `}
                <span>
                  {amount(trade.quantity)}
                  {trade.executedPrice !== null && ` × ${amount(trade.executedPrice)}`}
                </span>
                {trade.executedPrice !== null && ` = ${sum(valueAt(trade.quantity, trade.executedPrice))}`}
              </span>
              <When at={trade.timestamp} />
            </li>
          ))}
        </ul>
      )}
    </Some>
  );
}

const EVERY = "";

function Signals({ signals, hasMore }: { signals: readonly Signal[]; hasMore: boolean }) {
  const [channel, setChannel] = useState(EVERY);
  const channels = [...new Set(signals.flatMap(({ channelId }) => channelId ?? []))].sort();
  const isThere = channels.includes(channel);
  if (signals.length === 0) return <p class="nothing">No signals yet. They appear here, without a reload, as soon as a provider publishes them.</p>;
  return (
    <>
      {channels.length > 0 && (
        <p class="signal-channel">
          <label for="channel">Channel</label>
          <select id="channel" value={isThere ? channel : EVERY} onChange={(event) => setChannel(event.currentTarget.value)}>
            <option value={EVERY}>All</option>
            {channels.map((name) => (
              <option key={name} value={name} dir="auto">
                {name}
              </option>
            ))}
          </select>
        </p>
      )}
      <Some all={isThere ? signals.filter(({ channelId }) => channelId === channel) : signals} hasMore={hasMore}>
        {(shown) => (
          <ul class="ledger">
            {shown.map((signal) => (
              <li key={signal.signalId} data-signal={signal.signalId}>
                <bdi class="ledger-name">{signal.symbol}</bdi>
                <span class={`chip is-${signal.action}`}>{signal.action}</span>
                <span class="ledger-detail">
                  <bdi>{signal.providerName}</bdi>, {amount(signal.confidence)} % sure
                  <Levels signal={signal} />
                </span>
                <When at={signal.timestamp} />
              </li>
            ))}
          </ul>
        )}
      </Some>
    </>
  );
}

function Levels({ signal: { entryPrice, stopLoss, takeProfit } }: { signal: Signal }) {
  const levels = [
    ["entry", entryPrice],
    ["stop", stopLoss],
    ["target", takeProfit],
  ] as const;
  const texts = levels.flatMap(([name, price]) => (price === null ? [] : [`${name} ${amount(price)}`]));
  return texts.length === 0 ? null : <span class="levels">{texts.join(" · ")}</span>;
}
