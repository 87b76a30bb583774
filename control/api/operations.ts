/**
 * Every operation of the API in one table: the routes are registered from it, `/openapi.json` is made from it, and a
 * test holds it against the list in contract.ts.
 */
import { z } from 'zod';
import { TopTalkers, TraceRequest, TraceView } from '../../dataplane/contract.js';
import * as contract from './contract.js';
import { STORAGE_OPERATIONS } from './operationsOfStorage.js';
import { PAGE_PARAMETERS } from './paging.js';

export interface Operation {
  id: string;
  method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  /** As @koa/router writes it. */
  path: string;
  summary: string;
  query?: Readonly<Record<string, { schema: z.ZodType; description: string }>>;
  body?: z.ZodType;
  reply: { schema: z.ZodType; description?: string } | { type: string; description: string };
}

const Empty = z.object({});
const seq = z.int().min(0);

export const OPERATIONS = [
  {
    id: 'health',
    method: 'GET',
    path: '/healthz',
    summary: 'Whether weftd serves',
    reply: { schema: z.object({ ok: z.boolean() }) },
  },
  {
    id: 'metrics',
    method: 'GET',
    path: '/metrics',
    summary: 'Figures for Prometheus',
    reply: { type: 'text/plain; version=0.0.4', description: 'Prometheus text exposition' },
  },
  {
    id: 'openapi',
    method: 'GET',
    path: '/openapi.json',
    summary: 'This description',
    reply: { schema: z.record(z.string(), z.unknown()) },
  },
  {
    id: 'schema',
    method: 'GET',
    path: '/v1/schema',
    summary: 'JSON Schema of a configuration',
    reply: { schema: z.record(z.string(), z.unknown()) },
  },
  {
    id: 'status',
    method: 'GET',
    path: '/v1/status',
    summary: 'weftd, its planes, and whether everything is as asked for',
    reply: { schema: contract.SystemStatus },
  },
  {
    id: 'doctor',
    method: 'GET',
    path: '/v1/doctor',
    summary: 'What this machine has and lacks',
    reply: { schema: contract.Doctor },
  },
  {
    id: 'plan',
    method: 'POST',
    path: '/v1/plan',
    summary: 'What these files would change; changes nothing',
    body: contract.ChangeRequest,
    reply: { schema: contract.Plan },
  },
  {
    id: 'apply',
    method: 'POST',
    path: '/v1/apply',
    summary: 'Store a new revision; it is carried out from then on',
    body: contract.ChangeRequest,
    reply: { schema: contract.ApplyReply },
  },
  {
    id: 'listResources',
    method: 'GET',
    path: '/v1/resources',
    summary: 'Resources with their state, in the order of need and by name, in pages',
    query: {
      kind: { schema: contract.Kind, description: 'only of this kind' },
      name: { schema: z.string(), description: 'only of this name' },
      ...PAGE_PARAMETERS,
    },
    reply: { schema: contract.ResourcePage },
  },
  {
    id: 'getResource',
    method: 'GET',
    path: '/v1/resources/:kind/:name',
    summary: 'One resource with its state',
    reply: { schema: contract.Resource },
  },
  {
    id: 'deleteResource',
    method: 'DELETE',
    path: '/v1/resources/:kind/:name',
    summary: 'Take a resource out of the configuration; its data stays',
    query: { destroyData: { schema: z.boolean(), description: "destroy a volume's data as well" } },
    reply: { schema: contract.DeleteReply },
  },
  {
    id: 'events',
    method: 'GET',
    path: '/v1/events',
    summary: 'What happened, and what happens, as Server-Sent Events of WeftEvent',
    query: {
      since: { schema: seq, description: 'only events after this number' },
      kind: { schema: z.string(), description: 'only of this kind' },
      name: { schema: z.string(), description: 'only of this name' },
      follow: { schema: z.boolean(), description: 'false: what there is, as JSON {events}' },
    },
    reply: { type: 'text/event-stream', description: 'one WeftEvent per event; id is its seq' },
  },
  {
    id: 'logs',
    method: 'GET',
    path: '/v1/logs/:component{/:name}',
    summary: 'A log: weftd, dataplane, storage, machine/NAME (serial line), qemu/NAME',
    query: {
      follow: { schema: z.boolean(), description: 'go on as it grows' },
      lines: { schema: z.int().min(0), description: 'only so many lines from the end' },
    },
    reply: { type: 'text/plain', description: 'the log' },
  },
  {
    id: 'machineVerb',
    method: 'POST',
    path: '/v1/machines/:name/:verb',
    summary: 'start, stop, kill, reset, pause or resume a machine',
    body: contract.MachineRequest,
    reply: { schema: Empty },
  },
  {
    id: 'console',
    method: 'GET',
    path: '/v1/machines/:name/console',
    summary: 'The serial line: ask with Upgrade: weft-console; raw bytes both ways',
    reply: { type: 'application/octet-stream', description: 'after 101 Switching Protocols' },
  },
  {
    id: 'macs',
    method: 'GET',
    path: '/v1/switches/:name/macs',
    summary: 'Addresses that a switch has learned',
    reply: { schema: z.object({ entries: z.array(z.record(z.string(), z.unknown())) }) },
  },
  {
    id: 'flushMacs',
    method: 'DELETE',
    path: '/v1/switches/:name/macs',
    summary: 'Forget learned addresses',
    query: {
      port: { schema: z.string(), description: 'only those of this port' },
      vlan: { schema: z.int(), description: 'only those of this VLAN' },
    },
    reply: { schema: z.object({ flushed: z.int() }) },
  },
  {
    id: 'showSwitch',
    method: 'GET',
    path: '/v1/switches/:name/show/:what',
    summary: 'What a capability of a switch knows: stp, lag, groups, neighbours, rules, queues, …',
    reply: { schema: z.record(z.string(), z.unknown()) },
  },
  {
    id: 'traceFrame',
    method: 'POST',
    path: '/v1/switches/:name/trace',
    summary: 'What would become of a frame, stage by stage; nothing is sent',
    body: TraceRequest,
    reply: { schema: TraceView },
  },
  {
    id: 'topTalkers',
    method: 'GET',
    path: '/v1/switches/:name/top',
    summary: 'Who speaks most on a switch: watches for some seconds, then tells',
    query: {
      seconds: { schema: z.int().min(1).max(60), description: 'how long to watch; 2 when left out' },
      limit: { schema: z.int().min(1).max(10_000), description: 'conversations told; 20 when left out' },
    },
    reply: { schema: TopTalkers },
  },
  {
    id: 'capture',
    method: 'GET',
    path: '/v1/switches/:name/capture',
    summary: 'Frames of a switch as pcapng, until the client leaves',
    query: {
      port: { schema: z.string(), description: 'only of this port; may be repeated' },
      snaplen_bytes: { schema: z.int(), description: 'only so much of each frame' },
      count: { schema: z.int(), description: 'end after so many frames' },
      filter: { schema: z.string(), description: 'only frames for which it holds, as tcpdump says it' },
    },
    reply: { type: 'application/x-pcapng', description: 'pcapng' },
  },
  ...STORAGE_OPERATIONS,
  {
    id: 'buildImage',
    method: 'POST',
    path: '/v1/images/:name/build',
    summary: 'Build an image now; Server-Sent Events of ImageProgress',
    reply: { type: 'text/event-stream', description: 'one ImageProgress per event; the last has done: true' },
  },
  {
    id: 'shutdown',
    method: 'POST',
    path: '/v1/shutdown',
    summary: 'End weftd; everything: machines and planes first. Answers when they are down',
    body: contract.ShutdownRequest,
    reply: { schema: Empty },
  },
] as const satisfies readonly Operation[];

export type OperationId = (typeof OPERATIONS)[number]['id'];
