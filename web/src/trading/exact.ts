/**
 * Exact decimal arithmetic. The server sends only numbers whose shortest decimal form is the
 * published one, so that form is computed with, and not the binary number.
 */

/** A decimal number as a text, which `Intl.NumberFormat` formats without rounding it to binary. */
export type Exact = `${number}`;

/** A number of `digits`, `scale` of them after the point. */
interface Decimal {
  readonly digits: bigint;
  readonly scale: number;
}

/** Returns the value of a quantity at a price. */
export function valueAt(quantity: number, price: number): Exact {
  return written(product(parse(quantity), parse(price)));
}

/** Returns the profit of a position, or the loss below 0, at a price. */
export function gainAt(quantity: number, price: number, averagePrice: number): Exact {
  return written(product(parse(quantity), difference(parse(price), parse(averagePrice))));
}

/** Returns the gain in percent of the cost. Returns `undefined` if the position has no cost. */
export function gainPercent(quantity: number, price: number, averagePrice: number): number | undefined {
  if (quantity === 0 || averagePrice <= 0) return undefined;
  // A ratio that is rounded to two decimals, not money.
  return (Math.sign(quantity) * Number(written(difference(parse(price), parse(averagePrice)))) * 100) / averagePrice;
}

function parse(value: number): Decimal {
  const [mantissa = "", exponent = "0"] = String(value).split("e");
  const [whole = "", fraction = ""] = mantissa.split(".");
  const scale = fraction.length - Number(exponent);
  const digits = BigInt(whole + fraction);
  return scale >= 0 ? { digits, scale } : { digits: digits * 10n ** BigInt(-scale), scale: 0 };
}

function product(a: Decimal, b: Decimal): Decimal {
  return { digits: a.digits * b.digits, scale: a.scale + b.scale };
}

function difference(a: Decimal, b: Decimal): Decimal {
  const scale = Math.max(a.scale, b.scale);
  const scaled = ({ digits, scale: own }: Decimal) => digits * 10n ** BigInt(scale - own);
  return { digits: scaled(a) - scaled(b), scale };
}

function written({ digits, scale }: Decimal): Exact {
  const text = String(digits < 0n ? -digits : digits).padStart(scale + 1, "0");
  const sign = digits < 0n ? "-" : "";
  const fraction = scale === 0 ? "" : `.${text.slice(-scale)}`;
  return `${sign}${text.slice(0, text.length - scale)}${fraction}` as Exact;
}
