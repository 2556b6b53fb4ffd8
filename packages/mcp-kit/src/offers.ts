import { ProtocolError, ProtocolErrorCode, ResourceNotFoundError, type Server } from "@modelcontextprotocol/server";
import { z } from "zod";
import { clip } from "./answer.ts";
import type { ToolResult } from "./call.ts";
import type { Completion } from "./completion.ts";
import { nearest } from "./nearest.ts";
import { PAGES_EXTENSION, type Page, pageContents, publishedPage, showsPages } from "./page.ts";
import type { PromptDefinition } from "./prompt.ts";
import type { ResourceDefinition } from "./resource.ts";
import type { AnyTool } from "./tool.ts";

/** What a server offers besides tools. */
export interface Offers<Context> {
  prompts: readonly PromptDefinition<Context>[];
  resources: readonly ResourceDefinition<Context>[];
  page?: Page | undefined;
}

/** Calls a tool as `tools/call` would, with structured content whatever the settings say. */
type CallTool<Context> = (
  tool: AnyTool<Context>,
  given: Record<string, unknown>,
  request: OfferRequest,
) => Promise<ToolResult>;

/** What a tool must know of the request that it answers for. */
export interface OfferRequest {
  signal: AbortSignal;
  method: string;
  id: string | number;
  _meta?: object | undefined;
  /** What a request of the 2026 generation says of itself. */
  envelope?: object | undefined;
}

/** Most values that a completion may have, by the protocol. */
const VALUES_MAX = 100;

/** Time for values of a completion or a list, in milliseconds: somebody is typing, or a client is starting. */
const VALUES_TIMEOUT_MS = 5_000;

/** Longest value of an argument of a prompt, in characters: it goes into a message, and nothing longer is a name or a wish. */
const VALUE_CHARACTERS_MAX = 2_000;

/** What `initialize` says that there is. */
export function offeredCapabilities<Context>({ prompts, resources, page }: Offers<Context>) {
  return {
    ...(prompts.length > 0 ? { prompts: {} } : {}),
    ...(resources.length > 0 || page !== undefined ? { resources: {} } : {}),
    ...(prompts.length + resources.length > 0 ? { completions: {} } : {}),
    ...(page === undefined ? {} : { extensions: { [PAGES_EXTENSION]: {} } }),
  };
}

/** Lets a server answer for prompts, resources and the completion of their arguments. */
export function serveOffers<Context>(server: Server, offers: Offers<Context>, callTool: CallTool<Context>): void {
  const { prompts, resources, page } = offers;
  const values = (from: Completion<Context> | undefined, typed: string, request: OfferRequest): Promise<string[]> =>
    completedValues(from, typed, callTool, request);

  if (prompts.length > 0) {
    server.setRequestHandler("prompts/list", () => ({ prompts: prompts.map(publishedPrompt) }));
    server.setRequestHandler("prompts/get", ({ params }) => {
      const prompt = promptOf(prompts, params.name);
      const text = prompt.text(promptValues(prompt, params.arguments ?? {}));
      return { description: prompt.description, messages: [{ role: "user", content: { type: "text", text } }] };
    });
  }
  if (resources.length > 0 || page !== undefined) {
    server.setRequestHandler("resources/templates/list", () => ({
      resourceTemplates: resources.map(publishedTemplate),
    }));
    server.setRequestHandler("resources/list", async (_request, { mcpReq }) => {
      const listed = resources.filter((resource) => resource.listed);
      const found = await Promise.all(
        listed.map(async (resource) => {
          const all = await values(resource.complete, "", mcpReq);
          return all.map((value) => ({
            uri: prefixOf(resource) + encodeURIComponent(value),
            name: value,
            description: resource.title,
            mimeType: "application/json",
          }));
        }),
      );
      const isShown = page !== undefined && showsPages(mcpReq.envelope, server.getClientCapabilities());
      return { resources: [...(isShown ? [publishedPage(page)] : []), ...found.flat()] };
    });
    server.setRequestHandler("resources/read", async ({ params: { uri } }, { mcpReq }) => {
      if (page !== undefined && uri === page.uri) return pageContents(page);
      const { resource, value } = resourceOf(resources, uri);
      const result = await callTool(resource.tool, resource.arguments(value), mcpReq);
      const { text } = result.content[0];
      if (result.isError === true) throw readFailure(uri, text);
      return { contents: [{ uri, mimeType: "application/json", text }] };
    });
  }
  if (prompts.length + resources.length > 0) {
    server.setRequestHandler("completion/complete", async ({ params: { ref, argument } }, { mcpReq }) => {
      const from =
        ref.type === "ref/prompt"
          ? promptOf(prompts, ref.name).arguments.find(({ name }) => name === argument.name)?.complete
          : templateOf(resources, ref.uri).complete;
      const found = await values(from, argument.value, mcpReq);
      const shown = found.slice(0, VALUES_MAX);
      // No total: what a tool found is one page of its own.
      return { completion: { values: shown, hasMore: shown.length < found.length } };
    });
  }
}

function publishedPrompt<Context>({ name, title, description, arguments: given }: PromptDefinition<Context>) {
  return {
    name,
    title,
    description,
    arguments: given.map((argument) => ({
      name: argument.name,
      description: argument.description,
      required: argument.required,
    })),
  };
}

function publishedTemplate<Context>({ uriTemplate, name, title, description }: ResourceDefinition<Context>) {
  return { uriTemplate, name, title, description, mimeType: "application/json" };
}

function promptOf<Context>(prompts: readonly PromptDefinition<Context>[], name: string): PromptDefinition<Context> {
  const found = prompts.find((prompt) => prompt.name === name);
  if (found !== undefined) return found;
  const names = prompts.map((prompt) => prompt.name);
  throw invalid(`There is no prompt ${clip(name, 80)}; ${hint(name, names)}`);
}

/** The arguments of a prompt, each checked: a misspelt one is answered and not dropped. */
function promptValues<Context>(
  { name, arguments: known }: PromptDefinition<Context>,
  given: Record<string, string>,
): Record<string, string | undefined> {
  const names = known.map((argument) => argument.name);
  for (const [argument, value] of Object.entries(given)) {
    if (!names.includes(argument)) {
      throw invalid(`${name} has no argument ${clip(argument, 80)}; ${hint(argument, names)}`);
    }
    if (value.length > VALUE_CHARACTERS_MAX) {
      throw invalid(`${argument} has ${value.length} characters; at most ${VALUE_CHARACTERS_MAX} are taken.`);
    }
  }
  // An empty field of a form is none that was filled in.
  const filled = Object.entries(given).filter(([, value]) => value.trim() !== "");
  const values = new Map(filled.map(([argument, value]) => [argument, value.trim()]));
  const missing = known.filter((argument) => argument.required && !values.has(argument.name));
  if (missing.length > 0) {
    throw invalid(
      `${name} needs ${missing.map((argument) => `${argument.name} (${argument.description})`).join(", ")}`,
    );
  }
  return Object.fromEntries(values);
}

function prefixOf<Context>({ uriTemplate }: ResourceDefinition<Context>): string {
  return uriTemplate.slice(0, uriTemplate.indexOf("{"));
}

function templateOf<Context>(
  resources: readonly ResourceDefinition<Context>[],
  uri: string,
): ResourceDefinition<Context> {
  const found = resources.find(({ uriTemplate }) => uriTemplate === uri);
  if (found !== undefined) return found;
  throw invalid(`There is no template ${clip(uri, 80)}; there are ${templates(resources)}.`);
}

function resourceOf<Context>(
  resources: readonly ResourceDefinition<Context>[],
  uri: string,
): { resource: ResourceDefinition<Context>; value: string } {
  for (const resource of resources) {
    const prefix = prefixOf(resource);
    const value = uri.startsWith(prefix) ? decoded(uri.slice(prefix.length)) : "";
    if (value !== "") return { resource, value };
  }
  throw new ResourceNotFoundError(uri, `There is no resource ${clip(uri, 200)}; there are ${templates(resources)}.`);
}

/** The text that stands percent-encoded in an address; empty where it is not well encoded. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

function templates<Context>(resources: readonly ResourceDefinition<Context>[]): string {
  return resources.map(({ uriTemplate }) => uriTemplate).join(", ");
}

const failureSchema = z.object({
  error: z.looseObject({ code: z.string(), message: z.string(), next: z.string().optional() }),
});

/** A tool's failure as that of a resource. The protocol tells what is not there from all else. */
function readFailure(uri: string, text: string): ProtocolError {
  const { error } = failureSchema.parse(JSON.parse(text));
  const message = [error.message, error.next].filter((sentence) => sentence !== undefined).join(" ");
  if (/_not_found$|^unknown_(export|load)$/.test(error.code)) return new ResourceNotFoundError(uri, message);
  const code = error.code === "invalid_arguments" ? ProtocolErrorCode.InvalidParams : ProtocolErrorCode.InternalError;
  return new ProtocolError(code, message, error);
}

/** The values that have in them what is typed; none where they cannot be had, because a completion only helps. */
async function completedValues<Context>(
  from: Completion<Context> | undefined,
  typed: string,
  callTool: CallTool<Context>,
  request: OfferRequest,
): Promise<string[]> {
  if (from === undefined) return [];
  const known = "tool" in from ? await askedValues(from, typed, callTool, request) : from;
  const wanted = typed.toLowerCase();
  return known.filter((value) => value.toLowerCase().includes(wanted) && canBeShown(value));
}

async function askedValues<Context>(
  from: Exclude<Completion<Context>, readonly string[]>,
  typed: string,
  callTool: CallTool<Context>,
  request: OfferRequest,
): Promise<string[]> {
  const signal = AbortSignal.any([request.signal, AbortSignal.timeout(VALUES_TIMEOUT_MS)]);
  const result = await callTool(from.tool, from.arguments(typed), { ...request, signal });
  return result.structuredContent === undefined ? [] : from.values(result.structuredContent);
}

/** Whether a name out of a database may go into a menu and back as it is: it can be long, or hold what nobody sees. */
function canBeShown(value: string): boolean {
  return clip(value, VALUE_CHARACTERS_MAX) === value;
}

function hint(name: string, names: readonly string[]): string {
  const near = nearest(name, names);
  return near.length > 0 ? `did you mean ${near.join(" or ")}?` : `there are ${names.join(", ")}.`;
}

function invalid(message: string): ProtocolError {
  return new ProtocolError(ProtocolErrorCode.InvalidParams, message);
}
