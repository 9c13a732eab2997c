const plain = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 8 });
const money = new Intl.NumberFormat("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const scientific = new Intl.NumberFormat("en-GB", { notation: "scientific", maximumSignificantDigits: 6 });

/** Numbers above `HUGE`, and below `TINY`, are written as powers of ten. */
const HUGE = 1e15;
const TINY = 1e-8;

/** Formats a price or quantity with up to eight decimals. */
export function amount(value: number): string {
  return isOrdinary(value) ? plain.format(value) : special(value);
}

/** Formats a sum with two decimals. */
export function sum(value: number): string {
  return isOrdinary(value) && (value === 0 || Math.abs(value) >= 0.005) ? money.format(value) : special(value);
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
