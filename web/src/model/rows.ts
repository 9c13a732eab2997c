import type { SystemLine } from "./activity.ts";
import type { Draft } from "./draft.ts";
import type { Divider } from "./reading.ts";
import { dayKey, dayLabel, shortMoment } from "../words/time.ts";
import type { Message, MessageDelivered } from "../types.ts";

/** Messages of one author within this time, in milliseconds, form one group. */
const GROUP_SPAN = 5 * 60_000;

/** One line of the shown conversation. */
export type Row =
  | { kind: "day"; key: string; label: string }
  | { kind: "unread"; key: string; label: string }
  | { kind: "system"; key: string; text: string; timestamp: string }
  | { kind: "message"; key: string; message: Message; isOwn: boolean; startsGroup: boolean; endsGroup: boolean; receipt: string; isLeaving: boolean }
  | { kind: "draft"; key: string; draft: Draft; startsGroup: boolean };

type MessageRow = Extract<Row, { kind: "message" }>;

export interface RowSource {
  messages: readonly Message[];
  lines: readonly SystemLine[];
  drafts: readonly Draft[];
  ownId: string;
  divider: Divider | undefined;
  now: Date;
  /** Returns the delivery state of the user's own message. */
  receiptOf?: (message: Message) => string;
  /** Whether a message is about to be deleted. */
  isLeaving?: (messageId: string) => boolean;
}

/** Orders messages, system lines and drafts, with separators between days and before the unread. */
export function rowsOf({ messages, lines, drafts, ownId, divider, now, receiptOf, isLeaving }: RowSource): Row[] {
  const rows: Row[] = [];
  const waiting = [...lines];
  let day: string | undefined;
  const linesUpTo = (seq: number) => {
    while (waiting[0] !== undefined && waiting[0].afterSeq < seq) {
      const line = waiting.shift();
      if (line !== undefined) rows.push({ kind: "system", key: line.key, text: line.text, timestamp: line.timestamp });
    }
  };
  const [first] = messages;
  // Lines from before the oldest loaded message are shown again with the messages around them.
  while (first !== undefined && waiting[0] !== undefined && waiting[0].afterSeq < first.seq - 1) waiting.shift();
  // The divider precedes the first message of another user, if that is among these messages.
  let isDivided = divider === undefined || (first?.seq ?? 0) > divider.seq;
  for (const message of messages) {
    linesUpTo(message.seq);
    const key = dayKey(message.createdAt);
    if (key !== day) rows.push({ kind: "day", key: `day:${key}`, label: dayLabel(message.createdAt, now) });
    day = key;
    const isOwn = message.userId === ownId;
    if (!isDivided && divider !== undefined && message.seq >= divider.seq && !isOwn && !message.deletedAt) {
      rows.push({ kind: "unread", key: "unread", label: `${divider.count} new since ${shortMoment(message.createdAt, now)}` });
      isDivided = true;
    }
    const startsGroup = closeGroup(rows, message);
    const receipt = isOwn ? (receiptOf?.(message) ?? "stored") : "";
    rows.push({ kind: "message", key: message.id, message, isOwn, startsGroup, endsGroup: true, receipt, isLeaving: isLeaving?.(message.id) ?? false });
  }
  linesUpTo(Number.POSITIVE_INFINITY);
  for (const draft of drafts) {
    const before = rows.at(-1);
    const startsGroup = !(before?.kind === "draft" || (before?.kind === "message" && before.isOwn));
    rows.push({ kind: "draft", key: draft.clientMessageId, draft, startsGroup });
  }
  return rows;
}

/**
 * Returns a text that changes when the row looks different, so that its line must be drawn again.
 */
export function appearance(row: Row): string {
  switch (row.kind) {
    case "day":
    case "unread":
      return row.label;
    case "system":
      return row.text + row.timestamp;
    case "message": {
      const { message, isOwn, startsGroup, endsGroup, receipt, isLeaving } = row;
      return [message.version, message.deletedAt, isOwn, startsGroup, endsGroup, isLeaving, endsGroup && receipt].join("|");
    }
    case "draft":
      return [row.draft.delivery.state, row.draft.isUnsent, row.startsGroup].join("|");
  }
}

/** Returns the delivery state of the user's own stored message. */
export function receiptInWords(readers: number, others: number, report: MessageDelivered | undefined): string {
  if (readers > 0) return others > 1 ? `read by ${readers}` : "read";
  return report !== undefined && report.expected > 0 ? `delivered ${report.delivered}/${report.expected}` : "stored";
}

/**
 * Whether a message starts a group. If it does not, the message before it no longer ends the group.
 */
function closeGroup(rows: readonly Row[], message: Message): boolean {
  const before = rows.at(-1);
  if (before?.kind !== "message" || !belongTogether(before, message)) return true;
  before.endsGroup = false;
  return false;
}

function belongTogether({ message: before }: MessageRow, message: Message): boolean {
  const apart = Date.parse(message.createdAt) - Date.parse(before.createdAt);
  return before.userId === message.userId && before.userName === message.userName && apart < GROUP_SPAN;
}
