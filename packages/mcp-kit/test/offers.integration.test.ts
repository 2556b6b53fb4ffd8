import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FixtureProcess, initializeParams, type Message, modern } from "./harness.ts";

type Ask = (method: string, params?: Record<string, unknown>) => Promise<Message>;

let fixture: FixtureProcess;
let requests = 0;

beforeAll(async () => {
  fixture = new FixtureProcess();
  await fixture.request("init", "initialize", initializeParams("2025-11-25"));
});
afterAll(() => fixture.stop());

function message(text: string): object[] {
  return [{ role: "user", content: { type: "text", text } }];
}

const generations: [string, Ask][] = [
  ["2025", (method, params = {}) => fixture.request(++requests, method, params)],
  ["2026", (method, params = {}) => fixture.request(++requests, method, modern(params))],
];

test("says what it offers", async () => {
  const { result } = await fixture.request("again", "initialize", initializeParams("2025-06-18"));
  expect(result.capabilities).toEqual({ tools: {}, prompts: {}, resources: {}, completions: {} });
});

describe.each(generations)("for clients of the generation of %s", (_name, ask) => {
  const complete = async (ref: object, name: string, value: string): Promise<unknown> =>
    (await ask("completion/complete", { ref, argument: { name, value } })).result.completion;
  const greet = { type: "ref/prompt", name: "greet" };

  test("lists prompts and writes their text", async () => {
    const { prompts } = (await ask("prompts/list")).result;
    expect(prompts).toEqual([
      {
        name: "greet",
        title: "Greet",
        description: "Greets somebody.",
        arguments: [
          { name: "who", description: "whom to greet", required: true },
          { name: "tone", description: "how", required: false },
        ],
      },
    ]);
    const said = async (given: object): Promise<unknown> =>
      (await ask("prompts/get", { name: "greet", arguments: given })).result.messages;
    expect(await said({ who: "Ada", tone: "loud" })).toEqual(message("Greet Ada in a loud tone."));
    expect(await said({ who: " Ada ", tone: "" })).toEqual(message("Greet Ada in a calm tone."));
  });

  test.each([
    ["an unknown prompt", { name: "gret" }, "There is no prompt gret; did you mean greet?"],
    ["a missing argument", { name: "greet", arguments: { who: " " } }, "greet needs who (whom to greet)"],
    [
      "a misspelt argument",
      { name: "greet", arguments: { who: "a", tnoe: "b" } },
      "greet has no argument tnoe; did you mean tone?",
    ],
    [
      "an argument that is a document",
      { name: "greet", arguments: { who: "x".repeat(2_001) } },
      "who has 2001 characters; at most 2000 are taken.",
    ],
  ])("answers %s with what is wrong", async (_what, params, wrong) => {
    expect((await ask("prompts/get", params)).error).toMatchObject({ code: -32602, message: wrong });
  });

  test("shows as a resource what the tool answers", async () => {
    expect((await ask("resources/templates/list")).result.resourceTemplates).toEqual([
      {
        uriTemplate: "fixture://thing/{name}",
        name: "thing",
        title: "Thing",
        description: "A thing.",
        mimeType: "application/json",
      },
    ]);
    const uri = "fixture://thing/many%201";
    const { contents } = (await ask("resources/read", { uri })).result;
    expect(contents).toEqual([{ uri, mimeType: "application/json", text: '{"thing":"many 1"}' }]);
  });

  test("lists resources by names that can be shown", async () => {
    const { resources } = (await ask("resources/list")).result;
    expect(resources).toHaveLength(153);
    expect(resources[3]).toEqual({
      uri: "fixture://thing/many%200",
      name: "many 0",
      description: "Thing",
      mimeType: "application/json",
    });
  });

  test.each([
    ["fixture://thing/nothing", -32602, "There is no nothing. Call look."],
    ["fixture://thing/", -32602, "There is no resource fixture://thing/; there are fixture://thing/{name}."],
    ["fixture://thing/%zz", -32602, "There is no resource fixture://thing/%zz; there are fixture://thing/{name}."],
    ["file:///etc/passwd", -32602, "There is no resource file:///etc/passwd; there are fixture://thing/{name}."],
    ["fixture://thing/broken", -32603, "It cannot be reached."],
    [`fixture://thing/${"x".repeat(41)}`, -32602, expect.stringContaining("thing")],
  ])("answers %s with why it cannot be read", async (uri, code, why) => {
    expect((await ask("resources/read", { uri })).error).toMatchObject({ code, message: why });
  });

  test("completes arguments by words and by what a tool finds", async () => {
    expect(await complete(greet, "tone", "LO")).toEqual({ values: ["loud"], hasMore: false });
    expect(await complete(greet, "who", "ALPHA")).toEqual({ values: ["alpha", "alphabet"], hasMore: false });
    expect(await complete(greet, "who", "beta")).toEqual({ values: ["beta"], hasMore: false });
    const many = await complete({ type: "ref/resource", uri: "fixture://thing/{name}" }, "name", "many");
    expect(many).toMatchObject({ hasMore: true, values: { length: 100 } });
  });

  test("completes nothing where nothing is to be had, and says what it does not know", async () => {
    expect(await complete(greet, "who", "broken")).toEqual({ values: [], hasMore: false });
    expect(await complete(greet, "whom", "a")).toEqual({ values: [], hasMore: false });
    const unknown = { ref: { type: "ref/resource", uri: "no://{x}" }, argument: { name: "x", value: "" } };
    expect((await ask("completion/complete", unknown)).error).toMatchObject({
      code: -32602,
      message: "There is no template no://{x}; there are fixture://thing/{name}.",
    });
  });
});
