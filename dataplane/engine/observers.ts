/** Several observers of one link. A link that nobody observes pays a comparison per burst. */
import type { FrameTable, Queue } from './frames.js';
import type { Link, Observer } from './link.js';

class Observers implements Observer {
  list: readonly Observer[] = [];

  received(link: Link, frames: FrameTable, first: number, end: number): void {
    for (const observer of this.list) observer.received(link, frames, first, end);
  }

  sending(link: Link, frames: FrameTable, queue: Queue): void {
    for (const observer of this.list) observer.sending(link, frames, queue);
  }
}

export function observe(link: Link, observer: Observer): void {
  if (!(link.observer instanceof Observers)) link.observer = new Observers();
  const all = link.observer as Observers;
  all.list = [...all.list, observer];
}

/** Nothing is wrong with one that does not observe. */
export function stopObserving(link: Link, observer: Observer): void {
  if (!(link.observer instanceof Observers)) return;
  const all = link.observer;
  all.list = all.list.filter(other => other !== observer);
  if (all.list.length === 0) link.observer = undefined;
}
