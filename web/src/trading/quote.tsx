import { useEffect, useState } from "preact/hooks";
import { exactTime } from "../words/time.ts";
import { amount } from "./numbers.ts";
import { type LastQuote, type Prices, ageInWords, ageOf, isOld } from "./prices.ts";

/** Draws the component again when prices have changed, and every second because of their age. */
export function useAge(prices: Prices): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const draw = () => setNow(Date.now());
    const timer = setInterval(draw, 1000);
    const end = prices.watch(draw);
    return () => {
      clearInterval(timer);
      end();
    };
  }, [prices]);
  return now;
}

/** A price with its age. It is no live region: screen readers would not stop to announce it. */
export function QuoteText({ quote, now }: { quote: LastQuote; now: number }) {
  if (quote === undefined) return <span class="unknown">no price yet</span>;
  if (quote === "loading") return <span class="unknown">loading…</span>;
  return (
    <>
      <span class="price">{amount(quote.price)}</span>{" "}
      <time class="price-age" datetime={quote.timestamp} title={exactTime(quote.timestamp)}>
        {ageInWords(ageOf(quote, now))}
      </time>
      {isOld(quote, now) && (
        <>
          {" "}
          <span class="chip is-old">old</span>
        </>
      )}
    </>
  );
}
