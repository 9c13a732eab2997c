const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 1 });
const units = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Formats a time of day to the second. */
export const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export function count(value: number): string {
  return whole.format(value);
}

/** Formats a rate per second, with one decimal if it is below 100. */
export function rate(value: number): string {
  return (value < 100 ? tenths : whole).format(value);
}

export function bytes(value: number): string {
  const power = value < 1 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), units.length - 1);
  return `${power === 0 ? whole.format(value) : tenths.format(value / 1024 ** power)} ${units[power]}`;
}

/** Formats milliseconds, with two significant digits below 10. */
export function millis(value: number | undefined): string {
  if (value === undefined) return "–";
  return `${value < 10 ? Number(value.toPrecision(2)) : whole.format(value)} ms`;
}

export function percent(part: number): string {
  return `${whole.format(part * 100)} %`;
}

/** Formats a count with its noun. */
export function many(value: number, one: string, more = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : more}`;
}

/** Formats a duration in its two largest units. */
export function lasting(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1_000));
  const [minutes, hours, days] = [Math.floor(seconds / 60), Math.floor(seconds / 3_600), Math.floor(seconds / 86_400)];
  if (days > 0) return `${many(days, "day")} ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

/** Returns the id in the name of a server, which consists of a random part and its id. */
export function nodeId(name: string): string {
  return name.slice(name.indexOf("~") + 1);
}

/** Formats the age of old data, in milliseconds. */
export function age(milliseconds: number): string {
  return `${lasting(milliseconds)} old`;
}
