import { channel } from "node:diagnostics_channel";
import { z } from "zod";

const measurementSchema = z.object({
  instrument: z.object({ name: z.string() }),
  value: z.number(),
  attributes: z.record(z.string(), z.unknown()),
});

/** What the code of this process counts while `work` runs, under one name, by its attributes in their order. */
export async function countedWhile(name: string, work: () => Promise<void>): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const listen = (message: unknown): void => {
    const { instrument, value, attributes } = measurementSchema.parse(message);
    if (instrument.name !== name) return;
    const key = Object.values(attributes).join(" ");
    counts[key] = (counts[key] ?? 0) + value;
  };
  const measurements = channel("es-to-pg:measurement");
  measurements.subscribe(listen);
  try {
    await work();
  } finally {
    measurements.unsubscribe(listen);
  }
  return counts;
}
