/** `npm run seed`: writes the sample index and creates the sample database on the engines that the environment names. */
import { parseArgs } from "node:util";
import { createProductsTable, createSampleDatabase } from "./database.ts";
import { hasIndex, seedProducts } from "./seed-products.ts";

const usage = `Usage: npm run seed -- [options]
Writes the index and creates the database transformation_db on ELASTICSEARCH_URL and DATABASE_URL, whichever is set.
  --documents N   generate N documents; without it, the fifteen products
  --dirty         mix one document of each kind of bad value into every thousand
  --index NAME    products; an index of this name is replaced if an earlier run wrote it, else left alone
  --keep          leave an index of this name as it is, whoever wrote it
  --table         create the target table products too
`;

let parsed;
try {
  parsed = parseArgs({
    options: {
      documents: { type: "string" },
      dirty: { type: "boolean", default: false },
      index: { type: "string", default: "products" },
      keep: { type: "boolean", default: false },
      table: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${usage}`);
  process.exit(2);
}
const { values } = parsed;
const { ELASTICSEARCH_URL: elasticsearchUrl, DATABASE_URL: databaseUrl } = process.env;
const count = Number(values.documents ?? (values.dirty ? 1000 : 0));

if (values.help) {
  process.stdout.write(usage);
} else if (!Number.isSafeInteger(count) || count < 0) {
  process.stderr.write(`--documents takes a whole number, not ${String(values.documents)}\n`);
  process.exitCode = 2;
} else if (elasticsearchUrl === undefined && databaseUrl === undefined) {
  process.stderr.write("Set ELASTICSEARCH_URL, DATABASE_URL or both; `npm run demo` starts engines by itself.\n");
  process.exitCode = 2;
} else {
  try {
    await seed();
  } catch (error) {
    process.stderr.write(`The seed stopped: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}

async function seed(): Promise<void> {
  if (elasticsearchUrl !== undefined && values.keep && (await hasIndex(elasticsearchUrl, values.index))) {
    process.stdout.write(`index ${values.index} is there already and stays as it is\n`);
  } else if (elasticsearchUrl !== undefined) {
    const seeded = await seedProducts({
      elasticsearchUrl,
      index: values.index,
      ...(count > 0 ? { generate: { count, dirty: values.dirty } } : {}),
    });
    process.stdout.write(`index ${seeded.index}: ${seeded.documents} documents, ${seeded.bytes} bytes\n`);
  }
  if (databaseUrl !== undefined) {
    const url = await createSampleDatabase(databaseUrl);
    if (values.table) await createProductsTable(url);
    process.stdout.write(`database transformation_db is there${values.table ? ", with the table products" : ""}\n`);
  }
}
