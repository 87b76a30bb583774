/**
 * Server-Sent Events, the reading side (WHATWG HTML 9.2.6). Pure: text in, messages out. A stream that sends
 * a line or an event without end is cut off at a bound instead of filling the memory.
 */
export interface SseMessage {
  id: string | null;
  event: string;
  data: string;
}

const MAX_PENDING_CHARS = 4 * 1024 * 1024;

export class SseParser {
  #line = '';
  #data: string[] = [];
  #dataChars = 0;
  #event = '';
  #id: string | null = null;
  #skipLineFeed = false;

  /** Takes the next piece of the stream, returns the messages that it completes. Throws RangeError beyond the bound. */
  push(text: string): SseMessage[] {
    const messages: SseMessage[] = [];
    let from = 0;
    for (let at = 0; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (code !== 10 && code !== 13) continue;
      if (code === 10 && this.#skipLineFeed && at === from && this.#line === '') {
        this.#skipLineFeed = false;
        from = at + 1;
        continue;
      }
      this.#takeLine(this.#line + text.slice(from, at), messages);
      this.#line = '';
      from = at + 1;
      this.#skipLineFeed = code === 13;
    }
    if (from < text.length) {
      this.#line += text.slice(from);
      this.#skipLineFeed = false;
    }
    if (this.#line.length + this.#dataChars > MAX_PENDING_CHARS) {
      throw new RangeError(`an event of more than ${MAX_PENDING_CHARS} characters`);
    }
    return messages;
  }

  #takeLine(line: string, messages: SseMessage[]): void {
    if (line === '') {
      if (this.#data.length > 0) {
        messages.push({ id: this.#id, event: this.#event || 'message', data: this.#data.join('\n') });
      }
      this.#data = [];
      this.#dataChars = 0;
      this.#event = '';
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (field === 'data') {
      this.#data.push(value);
      this.#dataChars += value.length + 1;
    } else if (field === 'event') this.#event = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
  }
}
