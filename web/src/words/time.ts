// Times have one format everywhere, in the language of the page and independent of the browser's:
// the 24-hour clock of the user's time zone, the day before the month, and months of three letters.
// A place with less room shows a part of it:
//
//   exactTime    5 Jan 2026, 14:05:09   tooltips, lists, tools of a message
//   dayLabel     Monday 5 Jan           headings; "Today", "Yesterday", and "5 Jan 2025"
//   shortDay     5 Jan                  tables; "5 Jan 2025"
//   listTime     14:05                  the list of conversations; "5 Jan"
//   shortMoment  5 Jan, 14:05           within sentences; "14:05" today
//   clockTime    14:05                  lines

const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

export function clockTime(timestamp: string): string {
  const time = new Date(timestamp);
  return `${twoDigits(time.getHours())}:${twoDigits(time.getMinutes())}`;
}

export function exactTime(timestamp: string): string {
  const time = new Date(timestamp);
  return `${dayOf(time)} ${time.getFullYear()}, ${clockTime(timestamp)}:${twoDigits(time.getSeconds())}`;
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
  return time.getFullYear() === now.getFullYear() ? `${DAYS[time.getDay()]} ${dayOf(time)}` : shortDay(timestamp, now);
}

/** Returns the day of a time in a short form for lists, with the year if it is another one. */
export function shortDay(timestamp: string, now = new Date()): string {
  const time = new Date(timestamp);
  return time.getFullYear() === now.getFullYear() ? dayOf(time) : `${dayOf(time)} ${time.getFullYear()}`;
}

/** Returns a time for a list: the time of day, or the day unless it is today. */
export function listTime(timestamp: string, now = new Date()): string {
  return dayKey(timestamp) === dayKey(now.toISOString()) ? clockTime(timestamp) : shortDay(timestamp, now);
}

/** Returns a time for a sentence: the time of day, after the day unless it is today. */
export function shortMoment(timestamp: string, now: Date): string {
  const clock = clockTime(timestamp);
  return dayKey(timestamp) === dayKey(now.toISOString()) ? clock : `${shortDay(timestamp, now)}, ${clock}`;
}

/** Returns a duration in words, rounded up. */
export function waitInWords(milliseconds: number): string {
  const seconds = Math.max(1, Math.ceil(milliseconds / 1000));
  if (seconds < 60) return seconds === 1 ? "1 second" : `${seconds} seconds`;
  const minutes = Math.ceil(seconds / 60);
  return minutes === 1 ? "1 minute" : `${minutes} minutes`;
}

function dayOf(time: Date): string {
  return `${time.getDate()} ${MONTHS[time.getMonth()]}`;
}

function twoDigits(value: number): string {
  return String(value).padStart(2, "0");
}
