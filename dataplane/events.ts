/** Server-Sent Events of what changes by itself, to any number of readers. */
import type { ServerResponse } from 'node:http';
import type { DataplaneEvent } from './contract.js';

/** A reader that leaves so much unread is cut off: it can come back and ask for the status. */
const UNREAD_MAX_BYTES = 1024 * 1024;

export class EventStreams {
  readonly #readers = new Set<ServerResponse>();

  add(response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    // A first byte, so that the reader knows that the stream stands.
    response.write(':\n\n');
    this.#readers.add(response);
    response.on('close', () => this.#readers.delete(response));
  }

  tell(event: DataplaneEvent): void {
    if (this.#readers.size === 0) return;
    const text = `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
    for (const reader of this.#readers) {
      if (reader.writableLength > UNREAD_MAX_BYTES) reader.destroy();
      else reader.write(text);
    }
  }

  close(): void {
    for (const reader of this.#readers) reader.end();
    this.#readers.clear();
  }
}
