import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { ExecuteTrade } from "../types.ts";
import { Icon } from "../view/icons.tsx";
import type { Market } from "./market.ts";
import { amount, isSymbol, quantityOf } from "./numbers.ts";

/** The form to order a trade, with a separate confirmation. */
export function Order({ market, isOnline }: { market: Market; isOnline: boolean }) {
  const [symbol, setSymbol] = useState("");
  const [quantity, setQuantity] = useState("");
  const [side, setSide] = useState<ExecuteTrade["side"]>("buy");
  const [problem, setProblem] = useState<{ field: "symbol" | "quantity"; text: string } | undefined>(undefined);
  const [pending, setPending] = useState<ExecuteTrade | undefined>(undefined);
  const [isBusy, setIsBusy] = useState(false);
  const confirm = useRef<HTMLButtonElement>(null);
  // Moves the focus once per order, so that later events do not move it back.
  useLayoutEffect(() => confirm.current?.focus(), [pending]);
  const change = (set: (value: string) => void) => (event: preact.TargetedInputEvent<HTMLInputElement>) => {
    set(event.currentTarget.value);
    setProblem(undefined);
    setPending(undefined);
  };
  const review = (form: HTMLFormElement) => {
    const count = quantityOf(quantity);
    const trimmed = symbol.trim();
    const wrong = !isSymbol(trimmed)
      ? ({ field: "symbol", text: "A symbol has 1 to 32 letters, digits or signs, without spaces." } as const)
      : count === undefined
        ? ({ field: "quantity", text: "A quantity is a number above 0, such as 2 or 0.5, without commas." } as const)
        : undefined;
    setProblem(wrong);
    if (wrong !== undefined) return form.querySelector<HTMLElement>(`[name=${wrong.field}]`)?.focus();
    if (count !== undefined) setPending({ symbol: trimmed, side, quantity: count });
  };
  const execute = async (order: ExecuteTrade) => {
    setPending(undefined);
    setIsBusy(true);
    await market.execute(order);
    setIsBusy(false);
  };
  return (
    <section class="card" aria-labelledby="order-title">
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
          <button class="button" type="submit" disabled={!isOnline || isBusy}>
            {isBusy ? "Executing…" : "Review"}
          </button>
        ) : (
          <div class="order-confirm" role="group" aria-label="Confirm the order">
            <button class="button button-primary" type="button" ref={confirm} onClick={() => void execute(pending)} disabled={!isOnline}>
              {pending.side === "buy" ? "Buy" : "Sell"} {amount(pending.quantity)} <bdi>{pending.symbol}</bdi> now
            </button>
            <button class="button" type="button" onClick={() => setPending(undefined)}>
              Cancel
            </button>
          </div>
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
