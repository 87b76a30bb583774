/** `weft volume move`: to another pool, while it is used. weftd does it; who watches may go away. */
import type { Command } from 'commander';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { Resource, VolumeView } from '../../../control/api/contract.js';
import { ApiError, CliError, UsageError } from '../../errors.js';
import { formatBytes } from '../../format.js';
import { withProgress } from '../../progress.js';
import { readiness, resourcePath } from '../../resources.js';
import type { Session } from '../../session.js';
import { amountText } from '../../storage/bar.js';
import { parseVolume, volumePath, type VolumeName } from '../../storage/names.js';

const Empty = z.object({});
const LOOK_EVERY_MS = 500;

interface Options {
  keepSource: boolean;
  cancel: boolean;
  wait: boolean;
}

export function registerMove(group: Command, session: Session): void {
  group
    .command('move')
    .description('move a volume of the configuration to another pool, while it is used')
    .argument('<volume>', 'as POOL/VOLUME')
    .argument('[pool]', 'where to')
    .option('--keep-source', 'leave what lies in the first pool, its snapshots too', false)
    .option('--cancel', 'end a move that is under way: the volume stays where it is', false)
    .option('--no-wait', 'do not wait for its end')
    .action(async (target: string, to: string | undefined, options: Options, command: Command) => {
      const volume = parseVolume(target);
      const client = session.client(command);
      const path = volumePath(volume, '/move');
      if (options.cancel) {
        await client.call('DELETE', path, Empty);
        return session.print(`${target} stays where it is; "weft volume list" shows what was copied so far.`);
      }
      if (to === undefined) throw new UsageError('where to?', 'Say POOL/VOLUME and the pool it is to go to.');
      await client.call('POST', path, Empty, { body: { to, keepSource: options.keepSource } });
      if (!options.wait)
        return session.print(`${target} is on its way; "weft volume show ${target}" says how far it is.`);
      await withProgress(session, `Moving ${target} to ${to}`, say =>
        follow(session, command, volume, to, say),
      );
      const kept = options.keepSource ? ` What lies in pool ${volume.pool} was left there.` : '';
      session.print(`${target} is ${to}/${volume.volume} now.${kept}`);
      session.say(`In your configuration files, say "pool: ${to}" for volume ${volume.volume}.`);
    });
}

/** Until it has arrived, and what is to go is gone. */
async function follow(
  session: Session,
  command: Command,
  { pool, volume }: VolumeName,
  to: string,
  say: (text: string) => void,
): Promise<void> {
  const client = session.client(command);
  const live = session.io.stderr.isTTY === true;
  const begun_ms = Date.now();
  for (;;) {
    const resource = await client.call('GET', resourcePath('volume', volume), Resource);
    const { pool: now } = resource.spec;
    const view = await client
      .call('GET', volumePath({ pool, volume }), VolumeView)
      .catch((error: unknown) => {
        if (error instanceof ApiError && error.status === 404) return null;
        throw error;
      });
    const { message } = readiness(resource);
    if (now === to) {
      // The rest is told by conditions; what is to be kept is no longer ours to look at.
      if (view === null || !view.configured) return;
    } else if (view?.movingTo !== to)
      throw new CliError('MOVE_ENDED', `${pool}/${volume} was not moved: ${message}`, {
        hint: `"weft describe volume ${volume}" says more.`,
      });
    const mirror = view?.mirror;
    if (live && view !== null && mirror !== null && mirror !== undefined) {
      const done_bytes = view.size_bytes - mirror.left_bytes;
      say(`Moving: ${amountText({ done_bytes, total_bytes: view.size_bytes }, Date.now() - begun_ms)}`);
    } else if (live && view !== null) say(`Moving ${formatBytes(view.size_bytes)}: ${message}`);
    await sleep(LOOK_EVERY_MS);
  }
}
