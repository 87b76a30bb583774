/**
 * `weft tls …`: what exports with `tls` and their clients need, made on this machine: an authority of one's own, certificates
 * of it for servers and clients, or pre-shared keys. Needs no weftd, and tells it nothing: the files are named in the
 * configuration, and what to write there is printed.
 */
import { resolve } from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import type { Register } from '../resources.js';
import type { Session } from '../session.js';
import { addKey, day, makeAuthority, makeClient, makeServer, type Made } from '../tls/openssl.js';

/** RFC 5280 lets years have four digits; none of ours has to live that long. */
const DAYS_MAX = 36_500;

interface Options {
  days: number;
  force: boolean;
}

export const registerTls: Register = (program, session) => {
  const group = program.command('tls').description('certificates and keys for exports on the network');
  registerAuthority(group, session);
  registerServer(group, session);
  registerClient(group, session);
  registerKey(group, session);
};

function days(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= DAYS_MAX) return value;
  throw new InvalidArgumentError(`a whole number of days, ${DAYS_MAX} at most.`);
}

function place(session: Session, directory: string): string {
  return resolve(session.io.cwd, directory);
}

function registerAuthority(group: Command, session: Session): void {
  group
    .command('authority')
    .description('make an authority of your own; servers and clients believe what it has signed')
    .argument('<dir>', 'where its files go')
    .option('--name <name>', 'what it is called', 'weft')
    .option('--days <count>', 'how long it is good for', days, 3650)
    .option('--force', 'replace one that is there: all that it has signed is worth nothing then', false)
    .action(async (directory: string, options: Options & { name: string }) => {
      const made = await makeAuthority(place(session, directory), options.name, options);
      if (made === null) return session.say(`There is an authority in ${directory} already.`);
      tell(session, made);
      session.say('Whoever has its key can make certificates that are believed: keep it to this machine.');
    });
}

function registerServer(group: Command, session: Session): void {
  group
    .command('server')
    .description('make a certificate for this server; an authority too when there is none')
    .argument('<dir>', 'of the authority')
    .argument('<host...>', 'names and addresses by which clients will call it')
    .option('--days <count>', 'how long it is good for', days, 825)
    .option('--force', 'replace one that is there', false)
    .action(async (directory: string, hosts: string[], options: Options) => {
      const where = place(session, directory);
      await withAuthority(session, where);
      const made = await makeServer(where, hosts, options);
      tell(session, made);
      session.say('For an export, where every client must show a certificate:');
      session.print(
        `    tls: { certificate: ${made.certificate}, key: ${made.key}, authority: ${made.authority} }`,
      );
    });
}

function registerClient(group: Command, session: Session): void {
  group
    .command('client')
    .description('make a certificate for a client; an authority too when there is none')
    .argument('<dir>', 'of the authority')
    .argument('<name>', 'who it is: what exports allow')
    .option('--days <count>', 'how long it is good for', days, 825)
    .option('--force', 'replace one that is there', false)
    .action(async (directory: string, name: string, options: Options) => {
      const where = place(session, directory);
      await withAuthority(session, where);
      const made = await makeClient(where, name, options);
      tell(session, made);
      const own = made.certificate.slice(0, made.certificate.lastIndexOf('/'));
      session.say(
        `Give the client ${own}: libnbd wants it as tls-certificates=DIR in the URI, QEMU as dir= of tls-creds-x509.`,
      );
      session.say('For the export:');
      session.print(`    allow: { identities: [${name}] }`);
    });
}

function registerKey(group: Command, session: Session): void {
  group
    .command('psk')
    .description('add a pre-shared key to a file, for clients without certificates')
    .argument('<file>', 'of keys; made when it is not there')
    .argument('<identity>', 'whose it is: what exports allow')
    .option('--force', 'replace the one that is there', false)
    .action((file: string, identity: string, options: { force: boolean }) => {
      const path = resolve(session.io.cwd, file);
      addKey(path, identity, options.force);
      session.say(
        `A new key of "${identity}" is in ${path}. Give the client its line, by a way that nobody sees.`,
      );
      session.say('For the export:');
      session.print(`    tls: { psk: ${path} }`);
    });
}

async function withAuthority(session: Session, directory: string): Promise<void> {
  const made = await makeAuthority(directory, 'weft', { days: 3650, force: false });
  if (made !== null) tell(session, made);
}

function tell(session: Session, { certificate, key, validTo }: Made): void {
  session.say(`Made ${certificate} and ${key}, good until ${day(validTo)}.`);
}
