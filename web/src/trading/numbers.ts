import { type Exact, gainAt, gainPercent } from "./exact.ts";

const plain = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 8 });
const money = new Intl.NumberFormat("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const signed = new Intl.NumberFormat("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: "exceptZero" });
const scientific = new Intl.NumberFormat("en-GB", { notation: "scientific", maximumSignificantDigits: 6 });

/** Numbers above `HUGE`, and below `TINY`, are written as powers of ten. */
const HUGE = 1e15;
const TINY = 1e-8;

/** Formats a price or quantity with up to eight decimals. */
export function amount(value: number): string {
  return isOrdinary(value) ? plain.format(value) : special(value);
}

/** Formats a sum with two decimals. */
export function sum(value: number | Exact): string {
  return hasCents(Number(value)) ? money.format(value) : special(Number(value));
}

/** Formats the profit or loss of a position, with its sign and in percent of the cost. */
export function gain(quantity: number, price: number, averagePrice: number): string {
  const value = gainAt(quantity, price, averagePrice);
  const percent = gainPercent(quantity, price, averagePrice);
  const text = hasCents(Number(value)) ? signed.format(value) : `${Number(value) > 0 ? "+" : ""}${special(Number(value))}`;
  return percent === undefined ? text : `${text} (${Math.abs(percent) < HUGE ? signed.format(percent) : special(percent)}\u00a0%)`;
}

function hasCents(value: number): boolean {
  return isOrdinary(value) && (value === 0 || Math.abs(value) >= 0.005);
}

function isOrdinary(value: number): boolean {
  return value === 0 || (Math.abs(value) >= TINY && Math.abs(value) <= HUGE);
}

function special(value: number): string {
  return Number.isFinite(value) ? scientific.format(value).replace("E", " × 10^") : "–";
}

/** Parses a quantity. Returns `undefined` if the server would refuse it. */
export function quantityOf(text: string): number | undefined {
  const plainText = text.trim();
  // A comma may separate thousands or decimals, so it is refused: a wrong guess would trade a
  // thousand times too much.
  if (!/^(?:\d+\.?\d*|\.\d+)$/.test(plainText)) return undefined;
  const value = Number(plainText);
  return value > 0 && value <= 1e15 ? value : undefined;
}

/** Whether the server accepts a symbol: 1 to 32 ASCII characters without spaces. */
export function isSymbol(text: string): boolean {
  return /^[!-~]{1,32}$/.test(text);
}
