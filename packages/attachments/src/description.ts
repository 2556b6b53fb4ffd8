import { kitSettings, publishedTool, type Setting, type SettingsDefinition } from "@es-to-pg/mcp-kit";
import { server as esServer } from "es-mcp/dist/server.js";
import { tools as esTools } from "es-mcp/dist/tools/index.js";
import { server as pgServer } from "pg-mcp/dist/server.js";
import { tools as pgTools } from "pg-mcp/dist/tools/index.js";

/** Who publishes: the account of the repository, the scope of the npm packages, the namespace in the registry. */
export const OWNER = "es-to-pg";

/** What both servers are together. */
export const product = {
  name: "es-to-pg",
  title: "Elasticsearch to PostgreSQL",
  description: "Moves documents from Elasticsearch to PostgreSQL: discover, plan, export, load, verify",
  repository: `https://github.com/${OWNER}/es-to-pg`,
  license: "Apache-2.0",
  keywords: ["mcp", "elasticsearch", "postgresql", "etl", "migration"],
} as const;

/** A setting that an attachment asks its user for. All others keep their defaults until the user names them. */
export interface AskedSetting {
  name: string;
  /** What a form writes above the field. */
  title: string;
  /** One sentence, as the server documents it, in plain text. */
  description: string;
  secret: boolean;
  /** What points at the engines of the demo and of the compose file; undefined where they need nothing. */
  sample: string | undefined;
  /** What stands in examples that the reader has to change; undefined where the setting is not shown. */
  example: string | undefined;
}

/** One server, as every attachment describes it. */
export interface DescribedServer {
  /** What the user calls it in a client: tools are named after it. */
  alias: string;
  /** The program, and the folder in `packages`. */
  program: string;
  title: string;
  version: string;
  /** At most 100 characters, as the registry wants it. */
  description: string;
  npmName: string;
  registryName: string;
  settings: SettingsDefinition;
  asked: readonly AskedSetting[];
  tools: readonly { name: string; description: string }[];
}

export const servers: readonly DescribedServer[] = [
  describe(esServer, {
    alias: "es",
    description: "Reads Elasticsearch and stages exact exports for PostgreSQL; rows never pass through the model",
    asked: [
      { name: "ELASTICSEARCH_URL", title: "Elasticsearch address", sample: "http://localhost:9200", isExample: true },
      { name: "ELASTICSEARCH_API_KEY", title: "Elasticsearch API key" },
    ],
    tools: esTools.map((tool) => publishedTool(tool, { structuredOutput: false })),
  }),
  describe(pgServer, {
    alias: "pg",
    description: "Loads staged exports into PostgreSQL exactly once, proves them, and answers questions in SQL",
    asked: [
      {
        name: "DATABASE_URL",
        title: "PostgreSQL address",
        sample: "postgres://postgres:postgres@localhost:5432/transformation_db",
        isExample: true,
      },
    ],
    tools: pgTools.map((tool) => publishedTool(tool, { structuredOutput: false })),
  }),
];

interface Definition {
  name: string;
  title: string;
  version: string;
  settings: SettingsDefinition;
}

interface Own {
  alias: string;
  description: string;
  asked: readonly { name: string; title: string; sample?: string; isExample?: true }[];
  tools: DescribedServer["tools"];
}

function describe({ name, title, version, ...definition }: Definition, own: Own): DescribedServer {
  // A server reads what the kit reads, whether or not its own settings repeat it.
  const settings: SettingsDefinition = { ...definition.settings, ...kitSettings };
  return {
    alias: own.alias,
    program: name,
    title,
    version,
    description: own.description,
    npmName: `@${OWNER}/${name}`,
    registryName: `io.github.${OWNER}/${name}`,
    settings,
    asked: own.asked.map((asked) => askedSetting(asked, settings[asked.name])),
    tools: own.tools,
  };
}

function askedSetting(
  { name, title, sample, isExample }: Own["asked"][number],
  setting: Setting | undefined,
): AskedSetting {
  if (setting === undefined) throw new Error(`no server has a setting ${name}`);
  return {
    name,
    title,
    description: plainText(setting.description),
    secret: setting.secret === true,
    sample,
    example: isExample === true ? setting.example : undefined,
  };
}

/** A sentence of the tables of settings without its marks. */
export function plainText(sentence: string): string {
  return sentence.replaceAll("`", "");
}
