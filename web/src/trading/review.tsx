import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { ExecuteTrade } from "../types.ts";
import { valueAt } from "./exact.ts";
import { amount, sum } from "./numbers.ts";
import { type LastQuote, type Prices, isOld } from "./prices.ts";
import { QuoteText, useAge } from "./quote.tsx";

interface EstimateProps {
  prices: Prices;
  symbol: string;
  quantity: number | undefined;
}

/** The price of an order and its estimated value, live. */
export function Estimate({ prices, symbol, quantity }: EstimateProps) {
  const now = useAge(prices);
  const quote = prices.quoteOf(symbol);
  const price = priceOf(quote);
  return (
    <dl class="estimate">
      <div>
        <dt>Price</dt>
        <dd>
          <QuoteText quote={quote} now={now} />
        </dd>
      </div>
      {quantity !== undefined && (
        <div>
          <dt>Estimated value</dt>
          <dd>{price === undefined ? <span class="unknown">unknown</span> : <strong>{sum(valueAt(quantity, price))}</strong>}</dd>
        </div>
      )}
    </dl>
  );
}

interface ReviewProps {
  order: ExecuteTrade;
  prices: Prices;
  isOnline: boolean;
  execute: () => void;
  cancel: () => void;
}

/** The confirmation of an order. If the price has changed since the review, it is confirmed again. */
export function Review({ order, prices, isOnline, execute, cancel }: ReviewProps) {
  const now = useAge(prices);
  const quote = prices.quoteOf(order.symbol);
  const [reviewed, setReviewed] = useState<LastQuote>(quote);
  // How the price had changed at the first confirmation.
  const [change, setChange] = useState<string | undefined>(undefined);
  const button = useRef<HTMLButtonElement>(null);
  // Moves the focus once per order, so that later events do not move it back.
  useLayoutEffect(() => button.current?.focus(), [order]);
  useEffect(() => {
    if (reviewed === "loading" && quote !== "loading") setReviewed(quote);
  }, [reviewed, quote]);
  const confirm = () => {
    // Newer than the drawn price.
    const current = prices.quoteOf(order.symbol);
    // Only once: of a price that changes all the time, no order would ever be confirmed.
    if (change !== undefined || !hasChanged(reviewed, current)) return execute();
    setChange(`The price has changed from ${inWords(reviewed)} to ${inWords(current)}. Confirm again to order.`);
    setReviewed(current);
  };
  // A text that stays the same while the price changes, so that it is announced once.
  const note = change ?? (hasChanged(reviewed, quote) ? `The price has changed since your review. It was ${inWords(reviewed)}.` : "");
  return (
    <div class="order-confirm" role="group" aria-label="Confirm the order">
      <Estimate prices={prices} symbol={order.symbol} quantity={order.quantity} />
      <p class="order-note" role="status" aria-label="Change of the price">
        {note}
      </p>
      <p class="nothing">
        {quote === undefined
          ? "You can order without a price. You learn the value from the execution."
          : "The order is executed at the price of that moment, which may differ."}
      </p>
      <span id="order-summary" class="spoken">
        {summary(order, reviewed, now)}
      </span>
      <button
        class="button button-primary"
        type="button"
        ref={button}
        aria-describedby="order-summary"
        disabled={!isOnline}
        // A double click, or a held key, on “Review” does not confirm.
        onClick={({ detail }) => detail < 2 && confirm()}
        onKeyDown={(event) => event.repeat && event.preventDefault()}
      >
        {order.side === "buy" ? "Buy" : "Sell"} {amount(order.quantity)} <bdi>{order.symbol}</bdi> now
      </button>
      <button class="button" type="button" onClick={cancel}>
        Cancel
      </button>
    </div>
  );
}

function priceOf(quote: LastQuote): number | undefined {
  return typeof quote === "object" ? quote.price : undefined;
}

function hasChanged(reviewed: LastQuote, current: LastQuote): boolean {
  return reviewed !== "loading" && priceOf(reviewed) !== priceOf(current);
}

function inWords(quote: LastQuote): string {
  const price = priceOf(quote);
  return price === undefined ? "unknown" : amount(price);
}

/** Describes the confirmation for screen readers, with the price of the review. */
function summary({ quantity }: ExecuteTrade, reviewed: LastQuote, now: number): string {
  if (typeof reviewed !== "object") return "The value is unknown.";
  return `Estimated value ${sum(valueAt(quantity, reviewed.price))}, at the price ${amount(reviewed.price)}${isOld(reviewed, now) ? ", which is old" : ""}.`;
}
