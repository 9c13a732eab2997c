import { useEffect } from "preact/hooks";
import type { Position } from "../types.ts";
import { valueAt } from "./exact.ts";
import { Some, When } from "./lists.tsx";
import type { Market } from "./market.ts";
import { amount, gain, sum } from "./numbers.ts";
import { MAX_POSITIONS, type LastQuote, type Prices } from "./prices.ts";
import { QuoteText, useAge } from "./quote.tsx";

/** The portfolio: its sums and its positions. */
export function Holdings({ market, toOrder }: { market: Market; toOrder: preact.ComponentChildren }) {
  const { portfolio, prices } = market;
  const symbols = [...new Set(portfolio?.positions.map(({ symbol }) => symbol))];
  const followed = new Set(symbols.slice(0, MAX_POSITIONS));
  // Symbols contain no spaces.
  useEffect(() => prices.followPositions(symbols), [symbols.join(" ")]);
  useEffect(() => () => prices.followPositions([]), []);
  if (portfolio === undefined) {
    return <p class="nothing">There is no portfolio yet. It appears here, without a reload, as soon as a service publishes it. {toOrder}</p>;
  }
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
        <p class="nothing">No positions. {toOrder ?? "Your positions appear here after your first trade."}</p>
      ) : (
        <Some all={positions}>{(shown) => <Positions positions={shown} prices={prices} followed={followed} />}</Some>
      )}
      {prices.refusal !== undefined && <p class="nothing">There are no prices. {prices.refusal}</p>}
      {symbols.length > MAX_POSITIONS && <p class="nothing">Prices are shown for the first {MAX_POSITIONS} symbols.</p>}
      <p class="as-of">
        Total value and positions as of <When at={timestamp} />
      </p>
    </>
  );
}

const headings = ["Symbol", "Quantity", "Average price", "Price", "Value", "Profit or loss"];

/**
 * The positions with their live values. The roles are explicit because browsers do not derive them
 * if a narrow page shows the table as a list.
 */
function Positions({ positions, prices, followed }: { positions: readonly Position[]; prices: Prices; followed: ReadonlySet<string> }) {
  const now = useAge(prices);
  return (
    <table class="positions" role="table">
      <caption class="spoken">Positions</caption>
      <thead role="rowgroup">
        <tr role="row">
          {headings.map((heading) => (
            <th key={heading} scope="col" role="columnheader">
              {heading}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {positions.map((position, index) => (
          <PositionRow key={index} position={position} quote={followed.has(position.symbol) ? prices.quoteOf(position.symbol) : "unknown"} now={now} />
        ))}
      </tbody>
    </table>
  );
}

function PositionRow({ position: { symbol, quantity, avgPrice }, quote, now }: { position: Position; quote: LastQuote | "unknown"; now: number }) {
  const price = typeof quote === "object" ? quote.price : undefined;
  const missing = quote === "loading" ? <Unknown text="loading…" /> : <Unknown />;
  // A service without the cost of a position publishes it as 0.
  const isCostKnown = avgPrice !== 0;
  const result = price === undefined || !isCostKnown ? undefined : gain(quantity, price, avgPrice);
  return (
    <tr role="row" data-symbol={symbol}>
      <th scope="row" role="rowheader">
        <bdi>{symbol}</bdi>
      </th>
      <td role="cell" data-name="Quantity">
        {amount(quantity)}
      </td>
      <td role="cell" data-name="Average price">
        {isCostKnown ? amount(avgPrice) : <Unknown />}
      </td>
      <td role="cell" data-name="Price">
        {quote === "unknown" ? <Unknown /> : <QuoteText quote={quote} now={now} />}
      </td>
      <td role="cell" data-name="Value">
        {price === undefined ? missing : sum(valueAt(quantity, price))}
      </td>
      <td role="cell" data-name="Profit or loss">
        {result === undefined ? missing : <span class={result.startsWith("+") ? "is-gain" : result.startsWith("-") ? "is-loss" : undefined}>{result}</span>}
      </td>
    </tr>
  );
}

function Unknown({ text = "unknown" }: { text?: string }) {
  return <span class="unknown">{text}</span>;
}
