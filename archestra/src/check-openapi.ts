/**
 * `npm run check:archestra -- FILE`: compares the calls that this program makes with a platform's own description of
 * itself. Every body that is sent must be one that the platform takes, and every answer that the platform gives must be
 * one that is understood.
 */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { type Call, calls } from "./api/calls.ts";
import { nameOf } from "./api/client.ts";

type Json = Record<string, unknown>;

/** Fields of which a version takes one, the other or none: `readOpening` looks before they are sent. */
const openingFields = new Set(["scope", "initialGrants"]);

const parameterSchema = z.object({ name: z.string(), in: z.string(), required: z.boolean().default(false) });

const operationSchema = z.object({
  parameters: z.array(parameterSchema).default([]),
  requestBody: z.object({ content: z.record(z.string(), z.object({ schema: z.unknown() })) }).optional(),
  responses: z.record(
    z.string(),
    z.object({ content: z.record(z.string(), z.object({ schema: z.unknown() })).optional() }),
  ),
});

const descriptionSchema = z.object({
  info: z.object({ version: z.string() }),
  paths: z.record(z.string(), z.record(z.string(), z.unknown())),
  components: z.object({ schemas: z.record(z.string(), z.unknown()) }).default({ schemas: {} }),
});

/** What does not agree, as one line each; empty where all does. Throws where the text is no OpenAPI description. */
export function compareWithOpenApi(text: string): { version: string; problems: string[] } {
  const { info, paths, components } = descriptionSchema.parse(JSON.parse(text));
  const problems = Object.values<Call>(calls).flatMap((call) => {
    const found = paths[call.path]?.[call.method.toLowerCase()] ?? wildcard(paths, call);
    if (found === undefined) return [`${nameOf(call)}: there is no such call`];
    return new Comparison(components.schemas).call(call, operationSchema.parse(found));
  });
  return { version: info.version, problems };
}

/** A path that the platform hands on whole, as to its sign-in: `/api/auth/{*}`. */
function wildcard(paths: Record<string, Json>, { method, path }: Call): unknown {
  const prefix = Object.keys(paths).find((one) => one.endsWith("/{*}") && path.startsWith(one.slice(0, -"{*}".length)));
  return prefix === undefined ? undefined : paths[prefix]?.[method.toLowerCase()];
}

class Comparison {
  readonly #components: Json;

  constructor(components: Json) {
    this.#components = components;
  }

  call(call: Call, operation: z.output<typeof operationSchema>): string[] {
    const name = nameOf(call);
    const query = operation.parameters.filter((parameter) => parameter.in === "query");
    const used = new Set(call.query);
    const problems = [
      ...[...used]
        .filter((one) => !query.some((parameter) => parameter.name === one))
        .map((one) => `${name}: no query parameter ${one}`),
      ...query
        .filter((parameter) => parameter.required && !used.has(parameter.name))
        .map((one) => `${name}: needs ?${one.name}`),
    ];
    const theirs = operation.requestBody?.content["application/json"]?.schema;
    if (call.body !== undefined && theirs !== undefined) {
      problems.push(...this.#sent(z.toJSONSchema(call.body, { io: "input" }), theirs, `${name} body`));
    }
    const success = Object.entries(operation.responses).find(([status]) => status.startsWith("2"))?.[1];
    const answer = success?.content?.["application/json"]?.schema;
    if (answer !== undefined) {
      problems.push(...this.#received(z.toJSONSchema(call.answer, { io: "input" }), answer, `${name} answer`));
    }
    return problems;
  }

  /** Everything of ours that is sent must be taken. */
  #sent(ours: unknown, theirs: unknown, where: string): string[] {
    return this.#alternatives(ours).flatMap((mine) => {
      const options = this.#alternatives(theirs);
      const tries = options.map((option) => this.#sentOne(mine, option, where));
      return best(tries);
    });
  }

  #sentOne(mine: Json, option: Json, where: string): string[] {
    if (isAnything(option) || isAnything(mine)) return [];
    const values = enumOf(mine);
    const allowed = enumOf(option);
    if (values !== undefined && allowed !== undefined) {
      const refused = values.filter((value) => !allowed.includes(value));
      return refused.length === 0 ? [] : [`${where}: ${refused.join(", ")} is not among ${allowed.join(", ")}`];
    }
    if (
      typesOf(mine).some(
        (type) => !typesOf(option).some((other) => type === other || (type === "integer" && other === "number")),
      )
    ) {
      return [`${where}: ${typesOf(mine).join("|")} is sent, ${typesOf(option).join("|")} is taken`];
    }
    if (allowed !== undefined && values === undefined)
      return [`${where}: any ${typesOf(mine).join("|")} is sent, only ${allowed.join(", ")} is taken`];
    if (isObject(mine["items"])) return this.#sent(mine["items"], option["items"], `${where}[]`);
    const properties = propertiesOf(mine);
    const known = propertiesOf(option);
    const open = option["additionalProperties"];
    return [
      ...Object.entries(properties).flatMap(([field, schema]) => {
        const other = known[field];
        if (other !== undefined) return this.#sent(schema, other, `${where}.${field}`);
        if (openingFields.has(field)) return [];
        return isObject(open) ? this.#sent(schema, open, `${where}.${field}`) : [`${where}.${field}: is not taken`];
      }),
      ...requiredOf(option)
        .filter((field) => !requiredOf(mine).includes(field) && !openingFields.has(field))
        .map((field) => `${where}.${field}: is needed`),
      ...(isObject(mine["additionalProperties"]) && isObject(open)
        ? this.#sent(mine["additionalProperties"], open, `${where}.*`)
        : []),
    ];
  }

  /** Everything of theirs that we look at must be understood. */
  #received(ours: unknown, theirs: unknown, where: string): string[] {
    return this.#alternatives(theirs).flatMap((option) => {
      const tries = this.#alternatives(ours).map((mine) => this.#receivedOne(mine, option, where));
      return best(tries);
    });
  }

  #receivedOne(mine: Json, option: Json, where: string): string[] {
    if (isAnything(mine) || isAnything(option)) return [];
    const [understood, given] = [typesOf(mine), typesOf(option)];
    if (
      given.some((type) => !understood.some((other) => type === other || (type === "integer" && other === "number")))
    ) {
      return [`${where}: ${given.join("|")} is given, ${understood.join("|")} is understood`];
    }
    const [known, values] = [enumOf(mine), enumOf(option)];
    if (known !== undefined && values !== undefined) {
      const unknown = values.filter((value) => !known.includes(value));
      return unknown.length === 0 ? [] : [`${where}: ${unknown.join(", ")} is not understood`];
    }
    if (isObject(mine["items"])) return this.#received(mine["items"], option["items"], `${where}[]`);
    const properties = propertiesOf(option);
    const open = option["additionalProperties"];
    return [
      ...Object.entries(propertiesOf(mine)).flatMap(([field, schema]) => {
        const other = properties[field];
        const isNeeded = requiredOf(mine).includes(field);
        if (other === undefined) return isNeeded ? [`${where}.${field}: is not given`] : [];
        const missing =
          isNeeded && !requiredOf(option).includes(field) ? [`${where}.${field}: is not always given`] : [];
        return [...missing, ...this.#received(schema, other, `${where}.${field}`)];
      }),
      ...(isObject(mine["additionalProperties"]) && isObject(open)
        ? this.#received(mine["additionalProperties"], open, `${where}.*`)
        : []),
    ];
  }

  /** A schema as the plain ones it stands for: references followed, unions and `nullable` taken apart. */
  #alternatives(schema: unknown): Json[] {
    if (!isObject(schema)) return [{}];
    const { $ref: reference, nullable, ...rest } = schema;
    if (typeof reference === "string") return this.#alternatives(this.#components[reference.split("/").at(-1) ?? ""]);
    if (nullable === true) return [...this.#alternatives(rest), { type: "null" }];
    const type = rest["type"];
    if (Array.isArray(type)) return type.map((one): Json => ({ ...rest, type: one }));
    const union = rest["anyOf"] ?? rest["oneOf"];
    if (Array.isArray(union)) return union.flatMap((one) => this.#alternatives(one));
    const all = rest["allOf"];
    if (Array.isArray(all) && all.length === 1) return this.#alternatives(all[0]);
    if (rest["enum"] !== undefined && Array.isArray(rest["enum"]) && rest["enum"].every((one) => one === null))
      return [{ type: "null" }];
    return [rest];
  }
}

/** The fewest problems among the tries; none if one try has none. */
function best(tries: readonly string[][]): string[] {
  return tries.toSorted((one, other) => one.length - other.length)[0] ?? [];
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isAnything(schema: Json): boolean {
  return schema["type"] === undefined && enumOf(schema) === undefined && schema["properties"] === undefined;
}

function typesOf(schema: Json): string[] {
  const type = schema["type"];
  if (typeof type === "string") return [type];
  return [...new Set((enumOf(schema) ?? []).map((value) => (value === null ? "null" : typeof value)))];
}

function enumOf(schema: Json): unknown[] | undefined {
  if ("const" in schema) return [schema["const"]];
  return Array.isArray(schema["enum"]) ? schema["enum"] : undefined;
}

function propertiesOf(schema: Json): Json {
  return isObject(schema["properties"]) ? schema["properties"] : {};
}

function requiredOf(schema: Json): string[] {
  return Array.isArray(schema["required"]) ? schema["required"].map(String) : [];
}

if (process.argv[1] !== undefined && import.meta.filename === process.argv[1]) {
  const [, , file] = process.argv;
  if (file === undefined) {
    process.stderr.write(
      "Usage: npm run check:archestra -- FILE, with what a platform answers to GET /openapi.json as FILE\n",
    );
    process.exitCode = 2;
  } else {
    const { version, problems } = compareWithOpenApi(readFileSync(file, "utf8"));
    const count = Object.keys(calls).length;
    if (problems.length > 0) {
      process.stderr.write(`${problems.join("\n")}\n${problems.length} differences from Archestra ${version}\n`);
      process.exitCode = 1;
    } else {
      process.stdout.write(`All ${count} calls agree with Archestra ${version}.\n`);
    }
  }
}
