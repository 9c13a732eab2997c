// Texts that authors write piece by piece, and what must hold for everything that is seen of them.
//
// A text is found by the metadata of its message, since a reader may receive the message before its
// author knows the id.

/** Characters of one to four bytes, and some that combine with the one before them. */
const ALPHABET = [..."abc \n", "ü", "ß", "€", "語", "😀", "👩", "\u200d", "🚀", "👍", "🏽", "e", "\u0301", "\u20e3", "🇩", "🇪"];

/** Returns the number of characters of a text: Unicode scalar values. */
export const lengthOf = (text) => {
  let length = 0;
  for (const _ of text) length += 1;
  return length;
};

/** How a text ends, and how often of twenty. */
const FATES = ["finish", 13, "correct", 2, "abort", 2, "abandon", 3];

/** Returns a fate at random. */
function fateOf(random) {
  let rest = random() * 20;
  for (let n = 0; n < FATES.length; n += 2) {
    rest -= FATES[n + 1];
    if (rest < 0) return FATES[n];
  }
  return FATES[0];
}

/** A text, what its author knows of it, and how it has ended. */
export class Text {
  /** The most characters that were sent, and that an answer called stored. */
  sent = 0;
  stored = 0;
  isFinishSent = false;
  isAbortSent = false;
  /** Whether the end of the text was acknowledged. */
  isAcked = false;
  /** When the author last sent something that the server has accepted. */
  touchedAt = -Infinity;
  /** The first ended message that was seen, by anybody. */
  ended;
  #leastSilence;

  /**
   * Makes up a text that ends as `fate` says. The server interrupts it only after an author was
   * silent for `leastSilence` milliseconds.
   */
  constructor(id, conversationId, random, { leastSilence, fate = fateOf(random) }) {
    const count = 20 + Math.floor(random() ** 2 * 1500);
    this.id = id;
    this.conversationId = conversationId;
    this.fate = fate;
    this.characters = Array.from({ length: count }, () => ALPHABET[Math.floor(random() * ALPHABET.length)]);
    this.whole = this.characters.join("");
    /** Where an author that does not finish stops. */
    this.last = fate === "finish" || fate === "correct" ? count : Math.floor(random() * count);
    this.content = fate === "correct" ? `corrected ${this.whole}` : this.whole;
    this.#leastSilence = leastSilence;
  }

  slice(from, to) {
    return this.characters.slice(from, to).join("");
  }

  /** Returns what is wrong with a message as an event or an answer has it, or nothing. */
  problemOf(message) {
    const { content, streaming, interrupted, version } = message;
    const length = lengthOf(content);
    const isBeginning = content === this.slice(0, length);
    if (streaming) {
      if (version !== 1) return `grows in version ${version}`;
      if (!isBeginning) return `is no beginning of the text: ${JSON.stringify(content.slice(-40))}`;
      return length > this.sent ? `has ${length} characters, of which ${this.sent} were sent` : undefined;
    }
    return this.#problemOfEnd({ content, interrupted, version, length, isBeginning });
  }

  #problemOfEnd({ content, interrupted = false, version, length, isBeginning }) {
    if (version !== 2) return `has ended in version ${version}`;
    if (this.ended === undefined) this.ended = { content, interrupted };
    else if (this.ended.content !== content || this.ended.interrupted !== interrupted) {
      return `has two ends: ${length} and ${lengthOf(this.ended.content)} characters`;
    }
    if (!interrupted) {
      if (!this.isFinishSent) return "was finished by somebody else";
      return content === this.content ? undefined : `was not finished as ${JSON.stringify(content.slice(-40))}`;
    }
    if (!isBeginning) return "is interrupted, and no beginning of the text";
    if (length > this.sent) return `is interrupted after ${length} characters, of which ${this.sent} were sent`;
    if (length < this.stored) return `is interrupted after ${length} characters, and ${this.stored} were stored`;
    const silence = Date.now() - this.touchedAt;
    if (!this.isAbortSent && silence < this.#leastSilence) return `is interrupted ${silence} ms after its author was answered`;
    return undefined;
  }
}

/** All texts of a run, and everything that contradicts the promises. */
export class Texts {
  all = [];
  wrong = [];
  counts = { pieces: 0, appended: 0, answers: 0, ends: 0, unknown: 0 };
  #byMessage = new Map();
  #options;

  constructor(options = {}) {
    this.#options = { leastSilence: 0, ...options };
  }

  create(conversationId, random, options = {}) {
    const text = new Text(this.all.length, conversationId, random, { ...this.#options, ...options });
    this.all.push(text);
    return text;
  }

  /** Returns the text of a message, or nothing if the message was not written in pieces. */
  of({ id, metadata }) {
    const text = metadata?.text === undefined ? undefined : this.all[metadata.text];
    if (text !== undefined) this.#byMessage.set(id, text);
    return text;
  }

  /** Returns the text of a message that was seen before. */
  known(messageId) {
    return this.#byMessage.get(messageId);
  }

  blame(what) {
    this.wrong.push(what);
  }
}
