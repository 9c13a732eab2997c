const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const weekday = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long" });
const date = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" });

export function clockTime(timestamp: string): string {
  return clock.format(new Date(timestamp));
}

export function exactTime(timestamp: string): string {
  return exact.format(new Date(timestamp));
}

/** Returns the local day of a time as a key that is equal for equal days. */
export function dayKey(timestamp: string): string {
  const time = new Date(timestamp);
  return `${time.getFullYear()}-${time.getMonth() + 1}-${time.getDate()}`;
}

/** Returns the heading of a day: today, yesterday, or its date. */
export function dayLabel(timestamp: string, now: Date): string {
  const yesterday = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1);
  const key = dayKey(timestamp);
  if (key === dayKey(now.toISOString())) return "Today";
  if (key === dayKey(yesterday.toISOString())) return "Yesterday";
  const time = new Date(timestamp);
  return (time.getFullYear() === now.getFullYear() ? weekday : date).format(time);
}

/** Returns a duration in words, rounded up. */
export function waitInWords(milliseconds: number): string {
  const seconds = Math.max(1, Math.ceil(milliseconds / 1000));
  if (seconds < 60) return seconds === 1 ? "1 second" : `${seconds} seconds`;
  const minutes = Math.ceil(seconds / 60);
  return minutes === 1 ? "1 minute" : `${minutes} minutes`;
}

const short = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** Returns the day of a time in a short form for lists. */
export function shortDay(timestamp: string): string {
  return short.format(new Date(timestamp));
}
