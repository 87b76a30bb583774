/**
 * Server-Sent Events, the reading side, as far as our own planes use them: `data:` lines, comments as heartbeats.
 * Pure: bytes in, payloads out. https://html.spec.whatwg.org/multipage/server-sent-events.html
 */

/** One event of a plane is a short JSON object; a peer that sends more is not one of ours. */
export const EVENT_MAX_CHARACTERS = 1 << 20;

export class SseReader {
  #rest = '';
  #data: string[] = [];
  #length = 0;

  /** The payloads completed by this piece. Throws RangeError when an event has no end. */
  push(piece: string): string[] {
    const payloads: string[] = [];
    const text = this.#rest + piece;
    // A CR at the end may be half of a CR LF: it waits for what comes behind it.
    const end = text.endsWith('\r') ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\n|\r/);
    this.#rest = (lines.pop() ?? '') + text.slice(end);
    for (const line of lines) {
      if (line === '') {
        if (this.#data.length > 0) payloads.push(this.#data.join('\n'));
        this.#data = [];
        this.#length = 0;
      } else if (line.startsWith('data:')) {
        const value = line.slice(line[5] === ' ' ? 6 : 5);
        this.#data.push(value);
        this.#length += value.length;
      }
    }
    if (this.#rest.length + this.#length > EVENT_MAX_CHARACTERS)
      throw new RangeError(`an event longer than ${EVENT_MAX_CHARACTERS} characters`);
    return payloads;
  }
}
