import { useEffect, useState } from "preact/hooks";
import type { ExecuteTrade } from "../types.ts";
import { Icon } from "../view/icons.tsx";
import type { Market } from "./market.ts";
import { isSymbol, quantityOf } from "./numbers.ts";
import { Estimate, Review } from "./review.tsx";

/** Time in milliseconds after a key press before the price of a typed symbol is requested. */
const TYPING_PAUSE = 300;

/** The form to order a trade, with a separate confirmation. */
export function Order({ market, isOnline }: { market: Market; isOnline: boolean }) {
  const [symbol, setSymbol] = useState("");
  const [quantity, setQuantity] = useState("");
  const [side, setSide] = useState<ExecuteTrade["side"]>("buy");
  const [problem, setProblem] = useState<{ field: "symbol" | "quantity"; text: string } | undefined>(undefined);
  const [pending, setPending] = useState<ExecuteTrade | undefined>(undefined);
  const [isBusy, setIsBusy] = useState(false);
  const { prices } = market;
  const trimmed = symbol.trim();
  const valid = isSymbol(trimmed) ? trimmed : undefined;
  useEffect(() => {
    const timer = setTimeout(() => prices.followOrder(valid), TYPING_PAUSE);
    return () => clearTimeout(timer);
  }, [valid]);
  useEffect(() => () => prices.followOrder(undefined), []);
  const change = (set: (value: string) => void) => (event: preact.TargetedInputEvent<HTMLInputElement>) => {
    set(event.currentTarget.value);
    setProblem(undefined);
    setPending(undefined);
  };
  const review = (form: HTMLFormElement) => {
    const count = quantityOf(quantity);
    const wrong = valid === undefined
      ? ({ field: "symbol", text: "A symbol has 1 to 32 letters, digits or signs, without spaces." } as const)
      : count === undefined
        ? ({ field: "quantity", text: "A quantity is a number above 0, such as 2 or 0.5, without commas." } as const)
        : undefined;
    setProblem(wrong);
    if (wrong !== undefined) return form.querySelector<HTMLElement>(`[name=${wrong.field}]`)?.focus();
    if (valid === undefined || count === undefined) return;
    prices.followOrder(valid);
    setPending({ symbol: valid, side, quantity: count });
  };
  const execute = async (order: ExecuteTrade) => {
    setPending(undefined);
    setIsBusy(true);
    await market.execute(order);
    setIsBusy(false);
  };
  return (
    <section class="card card-order" aria-labelledby="order-title">
      <h2 id="order-title">Order</h2>
      <form
        class="order"
        onSubmit={(event) => {
          event.preventDefault();
          if (isOnline && !isBusy) review(event.currentTarget);
        }}
      >
        <fieldset class="sides">
          <legend class="spoken">Side</legend>
          {(["buy", "sell"] as const).map((one) => (
            <label key={one}>
              <input
                type="radio"
                name="side"
                checked={side === one}
                onChange={() => {
                  setSide(one);
                  setPending(undefined);
                }}
              />
              <span>{one === "buy" ? "Buy" : "Sell"}</span>
            </label>
          ))}
        </fieldset>
        <label for="order-quantity">Quantity</label>
        <input
          id="order-quantity"
          name="quantity"
          inputMode="decimal"
          autocomplete="off"
          value={quantity}
          aria-invalid={problem?.field === "quantity"}
          aria-describedby="order-problem"
          onInput={change(setQuantity)}
        />
        <label for="order-symbol">Symbol</label>
        <input
          id="order-symbol"
          name="symbol"
          autocomplete="off"
          autocapitalize="characters"
          spellcheck={false}
          maxLength={32}
          value={symbol}
          aria-invalid={problem?.field === "symbol"}
          aria-describedby="order-problem"
          onInput={change(setSymbol)}
        />
        <p id="order-problem" class="is-wrong" aria-live="polite">
          {problem?.text}
        </p>
        {pending === undefined ? (
          <>
            {valid !== undefined && <Estimate prices={prices} symbol={valid} quantity={quantityOf(quantity)} />}
            <button class="button" type="submit" disabled={!isOnline || isBusy}>
              {isBusy ? "Executing…" : "Review"}
            </button>
          </>
        ) : (
          <Review order={pending} prices={prices} isOnline={isOnline} execute={() => void execute(pending)} cancel={() => setPending(undefined)} />
        )}
      </form>
      <div role="status" aria-label="Outcomes of orders">
        {market.outcomes.map(({ key, kind, text }) => (
          <p key={key} class={`outcome is-${kind}`}>
            <Icon name={kind === "good" ? "check" : kind === "bad" ? "alert" : "clock"} />
            <span dir="auto">{text}</span>
          </p>
        ))}
      </div>
    </section>
  );
}
