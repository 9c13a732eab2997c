import { useEffect, useState } from "preact/hooks";
import { type App, TRADING } from "../app.ts";
import type { Portfolio, Signal, Trade } from "../types.ts";
import { Spoken, Time } from "../view/parts.tsx";
import { Market, isOpen } from "./market.ts";
import { amount, sum } from "./numbers.ts";
import { Order } from "./order.tsx";

/** Number of lines of a list that are shown until the user expands it. */
const SHOWN = 50;

/** The live portfolio, trades and signals of the user. */
export function Trading({ app }: { app: App }) {
  const market = marketOf(app);
  if (market === undefined) return null;
  const isOnline = app.status.state === "online" || app.status.state === "unresponsive";
  const { known, refusals } = market;
  return (
    <div class="trading">
      {!isOnline && <p class="trading-stale">Not connected. What you see may be out of date.</p>}
      <section class="card" aria-labelledby="portfolio-title">
        <h2 id="portfolio-title">Portfolio</h2>
        {refusals.get("portfolio") ?? (known.portfolio.isKnown ? <Holdings portfolio={market.portfolio} /> : <Waiting />)}
      </section>
      {market.mayExecute && <Order market={market} isOnline={isOnline} />}
      <section class="card" aria-labelledby="trades-title">
        <h2 id="trades-title">Trades</h2>
        {refusals.get("trades") ?? (known.trades.isKnown ? <Trades trades={market.trades} hasMore={market.hasMoreTrades} /> : <Waiting />)}
      </section>
      <section class="card" aria-labelledby="signals-title">
        <h2 id="signals-title">Signals</h2>
        {refusals.get("signals") ?? (known.signals.isKnown ? <Signals signals={market.signals} hasMore={market.hasMoreSignals} /> : <Waiting />)}
      </section>
    </div>
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

function Holdings({ portfolio }: { portfolio: Portfolio | undefined }) {
  if (portfolio === undefined) return <p class="nothing">There is no portfolio yet. It appears here as soon as it is published.</p>;
  const { totalValue, cash, positions, timestamp } = portfolio;
  return (
    <>
      <dl class="sums">
        <div>
          <dt>Total value</dt>
          <dd class="sum-large">{sum(totalValue)}</dd>
        </div>
        <div>
          <dt>Cash</dt>
          <dd>{sum(cash)}</dd>
        </div>
      </dl>
      {positions.length === 0 ? (
        <p class="nothing">No positions.</p>
      ) : (
        <Some all={positions}>
          {(shown) => (
            <table class="positions">
              <caption class="spoken">Positions</caption>
              <thead>
                <tr>
                  <th scope="col">Symbol</th>
                  <th scope="col">Quantity</th>
                  <th scope="col">Average price</th>
                </tr>
              </thead>
              <tbody>
                {shown.map(({ symbol, quantity, avgPrice }, index) => (
                  <tr key={index}>
                    <th scope="row">
                      <bdi>{symbol}</bdi>
                    </th>
                    <td>{amount(quantity)}</td>
                    <td>{amount(avgPrice)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </Some>
      )}
      <p class="as-of">
        As of <Time at={timestamp} />
      </p>
    </>
  );
}

const states: Record<Trade["status"], string> = { pending: "open", executed: "executed", failed: "failed", canceled: "canceled" };

function Trades({ trades, hasMore }: { trades: readonly Trade[]; hasMore: boolean }) {
  if (trades.length === 0) return <p class="nothing">No trades yet.</p>;
  return (
    <Some all={trades} hasMore={hasMore}>
      {(shown) => (
        <ul class="ledger">
          {shown.map((trade) => (
            <li key={trade.tradeId} data-trade={trade.tradeId} data-status={trade.status}>
              <bdi class="ledger-name">{trade.symbol}</bdi>
              <span class={isOpen(trade) ? "chip is-open" : trade.status === "executed" ? "chip is-good" : "chip"}>{states[trade.status]}</span>
              <span class="ledger-detail">
                {amount(trade.quantity)}
                {trade.executedPrice !== null && ` × ${amount(trade.executedPrice)}`}
              </span>
              <Time at={trade.timestamp} />
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
  if (signals.length === 0) return <p class="nothing">No signals yet.</p>;
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
                <Time at={signal.timestamp} />
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

/** The beginning of a list, and the whole list after the user expands it. */
function Some<Item>({ all, hasMore = false, children }: { all: readonly Item[]; hasMore?: boolean; children: (shown: readonly Item[]) => preact.ComponentChildren }) {
  const [isWhole, setIsWhole] = useState(false);
  const isCut = all.length > SHOWN && !isWhole;
  // Collapses the list again after it was short.
  useEffect(() => {
    if (all.length <= SHOWN) setIsWhole(false);
  }, [all.length <= SHOWN]);
  return (
    <>
      {children(isCut ? all.slice(0, SHOWN) : all)}
      {isCut ? (
        <button class="link-button" type="button" onClick={() => setIsWhole(true)}>
          Show all {all.length}
          <Spoken> lines</Spoken>
        </button>
      ) : (
        hasMore && <p class="nothing">Older entries are not shown.</p>
      )}
    </>
  );
}
