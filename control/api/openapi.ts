/** `/openapi.json` (OpenAPI 3.1) from the table of operations and the zod contract. */
import { z } from 'zod';
import { JobRequest, JobStatus, PoolStatus, SnapshotStatus, VolumeStatus } from '../../storage/contract.js';
import * as contract from './contract.js';
import { OPERATIONS } from './operations.js';
import type { Operation } from './operations.js';

const COMPONENTS = {
  Resource: contract.Resource,
  Condition: contract.Condition,
  ChangeRequest: contract.ChangeRequest,
  Plan: contract.Plan,
  PlannedAction: contract.PlannedAction,
  Problem: contract.Problem,
  DeleteReply: contract.DeleteReply,
  WeftEvent: contract.WeftEvent,
  PlaneStatus: contract.PlaneStatus,
  SystemStatus: contract.SystemStatus,
  Doctor: contract.Doctor,
  MachineRequest: contract.MachineRequest,
  VolumeRow: contract.VolumeRow,
  VolumeView: contract.VolumeView,
  VolumeStatus,
  SnapshotStatus,
  SnapshotOrder: contract.SnapshotOrder,
  PoolStatus,
  JobRequest,
  JobStatus,
  TransferRequest: contract.TransferRequest,
  TransferReady: contract.TransferReady,
  ImageProgress: contract.ImageProgress,
  ShutdownRequest: contract.ShutdownRequest,
  ErrorReply: contract.ErrorReply,
} as const;

type Json = Record<string, unknown>;

/** `{ $ref }` for a named schema, the schema itself for a small one. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Json {
  for (const [name, component] of Object.entries(COMPONENTS))
    if (component === schema) return { $ref: `#/components/schemas/${name}` };
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io }) as Json;
  return json;
}

/** `/v1/logs/:component{/:name}` is two paths in OpenAPI. */
export function openapiPaths(path: string): string[] {
  const optional = /^(.*)\{(.*)\}$/.exec(path);
  const paths = optional === null ? [path] : [optional[1]!, `${optional[1]!}${optional[2]!}`];
  return paths.map(one => one.replace(/:(\w+)/g, '{$1}'));
}

function parametersOf(operation: Operation, path: string): Json[] {
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(match => ({
    name: match[1],
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
  const inQuery = Object.entries(operation.query ?? {}).map(([name, { schema, description }]) => ({
    name,
    in: 'query',
    description,
    schema: schemaOf(schema, 'input'),
  }));
  return [...inPath, ...inQuery];
}

function describe(operation: Operation, path: string, index: number): Json {
  const { reply, body, summary, id } = operation;
  const content =
    'schema' in reply
      ? { 'application/json': { schema: schemaOf(reply.schema, 'output') } }
      : { [reply.type]: { schema: { type: 'string', description: reply.description } } };
  return {
    operationId: index === 0 ? id : `${id}Named`,
    summary,
    parameters: parametersOf(operation, path),
    ...(body === undefined
      ? {}
      : { requestBody: { content: { 'application/json': { schema: schemaOf(body, 'input') } } } }),
    responses: {
      [id === 'console' ? '101' : '200']: { description: 'done', content },
      default: {
        description: 'an error',
        content: { 'application/json': { schema: { $ref: '#/components/schemas/ErrorReply' } } },
      },
    },
  };
}

export function openapi(version: string): Json {
  const paths: Record<string, Json> = {};
  for (const operation of OPERATIONS as readonly Operation[])
    for (const [index, path] of openapiPaths(operation.path).entries()) {
      paths[path] ??= {};
      paths[path][operation.method.toLowerCase()] = describe(operation, path, index);
    }
  const schemas: Record<string, Json> = {};
  for (const [name, schema] of Object.entries(COMPONENTS)) {
    const { $schema: _, ...json } = z.toJSONSchema(schema, { io: 'output' }) as Json;
    schemas[name] = json;
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'weftd',
      version,
      description: 'The network and storage fabric under the virtual machines of one Linux machine',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    security: [{}, { token: [] }],
    paths,
    components: {
      schemas,
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'needed on TCP, not on the Unix socket' },
      },
    },
  };
}
