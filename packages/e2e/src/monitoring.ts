import { readFileSync } from "node:fs";
import { z } from "zod";

/** Files of archestra/monitoring, as they are mounted into the containers. */
export const monitoringFolder = new URL("../../../archestra/monitoring/", import.meta.url);

const dashboardSchema = z.object({
  panels: z.array(
    z.object({
      title: z.string(),
      type: z.string(),
      targets: z.array(z.object({ expr: z.string() })).default([]),
    }),
  ),
});

/** One query of the dashboard, and the panel that shows it. */
export interface PanelQuery {
  panel: string;
  query: string;
}

/** Every query of the dashboard, with times in place of Grafana's variables. */
export function panelQueries(interval: string, range: string): PanelQuery[] {
  const text = readFileSync(new URL("grafana/dashboards/es-to-pg.json", monitoringFolder), "utf8");
  return dashboardSchema.parse(JSON.parse(text)).panels.flatMap(({ title, targets }) =>
    targets.map(({ expr }) => ({
      panel: title,
      query: expr.replaceAll("$__rate_interval", interval).replaceAll("$__range", range),
    })),
  );
}
