import { z } from "zod";
import type { Turn } from "./script.ts";
import type { Asked, Reply, Said, Wire } from "./scripted-model.ts";

const textSchema = z.strictObject({ text: z.string() });
const callSchema = z.looseObject({
  functionCall: z.looseObject({ id: z.string(), name: z.string(), args: z.looseObject({}) }),
  thoughtSignature: z.string().optional(),
});
type Call = z.infer<typeof callSchema>;
const responseSchema = z.looseObject({
  functionResponse: z.looseObject({
    id: z.string(),
    name: z.string(),
    response: z.union([z.strictObject({ output: z.string() }), z.strictObject({ error: z.string() })]),
  }),
});

const failureSchema = z.tuple([
  z.looseObject({
    functionResponse: z.looseObject({
      response: z.looseObject({ content: z.array(z.looseObject({ text: z.string() })).min(1) }),
    }),
  }),
]);

const contentSchema = z.discriminatedUnion("role", [
  z.looseObject({ role: z.literal("user"), parts: z.array(z.union([textSchema, responseSchema])).min(1) }),
  z.looseObject({
    role: z.literal("model"),
    parts: z
      .array(z.union([textSchema, callSchema]))
      .min(1)
      // Gemini 3 refuses the whole request for the first call of a turn that comes back without it.
      .refine((parts) => parts.find(isCall)?.thoughtSignature !== undefined || !parts.some(isCall), {
        message: "the first call of a turn should keep its thoughtSignature",
      }),
  }),
]);
type Content = z.infer<typeof contentSchema>;

/** What Gemini asks of a tool; it refuses a whole request for one name that is not so. */
const toolSchema = z.looseObject({
  name: z.string().regex(/^[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}$/),
  description: z.string(),
  parametersJsonSchema: z.looseObject({ type: z.literal("object") }).optional(),
});

const requestSchema = z.looseObject({
  systemInstruction: z.looseObject({ parts: z.array(textSchema) }),
  contents: z.array(contentSchema).min(1),
  tools: z.array(z.looseObject({ functionDeclarations: z.array(toolSchema) })),
});

/** Gemini CLI tells the model by this tag to obey nothing in an answer. */
const tagged = /^<untrusted_context>\n(.*)\n<\/untrusted_context>$/s;

/** `POST /v1beta/models/{model}:streamGenerateContent?alt=sse`: Gemini CLI, once it is told which model, asks for nothing else. */
export const geminiWire: Wire = {
  path: (model) => `/v1beta/models/${model}:streamGenerateContent`,
  base: "",
  keyOf: (headers) => headers["x-goog-api-key"]?.toString(),
  read(body): Asked {
    const { contents, tools } = requestSchema.parse(body);
    const names = tools.flatMap(({ functionDeclarations }) => functionDeclarations.map(({ name }) => name));
    return { tools: names, said: contents.map(saidIn), isStreamed: true };
  },
  write: responseOf,
  writeEvents: (turn, reply) => `data: ${JSON.stringify(responseOf(turn, reply))}\n\n`,
  writeError: (type, message) => ({ error: { message, status: type } }),
};

function responseOf(turn: Turn, { id, model, toolName, usage }: Reply): object {
  return {
    responseId: `response_${id}`,
    modelVersion: model,
    candidates: [
      {
        index: 0,
        content: {
          role: "model",
          parts:
            "say" in turn
              ? [{ text: turn.say }]
              : turn.calls.map(({ tool, args }, index) => ({
                  functionCall: { id: `call_${id}_${index}`, name: toolName(tool), args },
                  // Only the first of calls side by side is signed; base64, as all bytes in Google's JSON.
                  ...(index === 0 ? { thoughtSignature: btoa(`thought ${id}`) } : {}),
                })),
        },
        finishReason: "STOP",
      },
    ],
    ...(usage === null
      ? {}
      : {
          usageMetadata: {
            promptTokenCount: usage.input,
            candidatesTokenCount: usage.output,
            totalTokenCount: usage.input + usage.output,
          },
        }),
  };
}

function isCall(part: Call | z.infer<typeof textSchema>): part is Call {
  return "functionCall" in part;
}

function saidIn({ role, parts }: Content): Said {
  if (role === "model") {
    return { by: "model", calls: parts.filter(isCall).map(({ functionCall }) => functionCall.id) };
  }
  const responses = parts.flatMap((part) => ("functionResponse" in part ? [part.functionResponse] : []));
  if (responses.length === 0) {
    return { by: "user", text: parts.map((part) => ("text" in part ? part.text : "")).join("\n") };
  }
  const answers = responses.map(({ id, response }): [string, string] => [
    id,
    "output" in response ? response.output.replace(tagged, "$1") : failureIn(response.error),
  ]);
  return { by: "tools", answers: new Map(answers) };
}

/** What a server said of a failure, out of the sentence that Gemini CLI tells of it. */
function failureIn(sentence: string): string {
  const quoted = / with response: (\[.*\])$/s.exec(sentence)?.[1];
  if (quoted === undefined) return sentence;
  const [part] = failureSchema.parse(JSON.parse(quoted));
  return part.functionResponse.response.content.map(({ text }) => text).join("");
}
